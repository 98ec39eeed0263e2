"""What is wrong with a data set: each check turns facts into findings, and knows the line not to be crossed."""

import collections
from collections.abc import Iterator

import numpy as np

from fakeimg.auditing import copies
from fakeimg.auditing.finding import Audited, Finding
from fakeimg.auditing.shortcuts import check_shift, check_shortcuts
from fakeimg.data.labels import LABELS

BROKEN_LINE = 0.01  # share of a split; training stops over it too (config.data.max_bad_fraction)
NEAR_LINE = 0.01  # share of a later split that nearly repeats an earlier one: as much as an accuracy is wrong by
MINORITY_LINE = 0.2  # share of the rarer class of a split
BALANCE_LINE = 0.1  # difference between the shares of fakes of two splits


def run_checks(audited: Audited) -> Iterator[Finding]:
    """Yields the findings of all checks, most plain ones first. Some take seconds."""
    yield from check_broken(audited)
    yield from check_classes(audited)
    exact = copies.find_exact(audited.measured.facts)
    yield from check_copies(audited, exact)
    yield from check_near_copies(audited, exact)
    yield from check_groups(audited)
    yield from check_shortcuts(audited, exact.pixels)
    yield from check_shift(audited, exact.pixels)


def check_broken(audited: Audited) -> Iterator[Finding]:
    """Unreadable files by kind, and extensions that lie."""
    measured = audited.measured
    counts: dict[str, dict[str, int]] = {}
    worst = 0.0
    for index, split in enumerate(measured.splits):
        problems = measured.facts['problem'][audited.rows(index, readable=False)]
        kinds = collections.Counter(problem.decode() for problem in problems[problems != b''])
        if kinds:
            counts[split] = dict(kinds)
            worst = max(worst, kinds.total() / len(problems))
    if counts:
        listed = '; '.join(
            f'{split}: ' + ', '.join(f'{count:,} {kind.replace("_", " ")}' for kind, count in kinds.items())
            for split, kinds in counts.items()
        )
        first = measured.names[int(np.argmax(measured.facts['problem'] != b''))]
        yield Finding(
            'broken',
            'fail' if worst > BROKEN_LINE else 'warn',
            f'images that cannot be read: {listed} (first: {first})',
            'get them again, or remove them; audit.json lists them.',
            {
                'counts': counts,
                'names': [measured.names[row] for row in np.flatnonzero(measured.facts['problem'] != b'')],
            },
        )
    else:
        yield Finding('broken', 'ok', f'all {len(measured.names):,} images can be read')
    misnamed = 0 if audited.is_prepared else int(measured.facts['misnamed'].sum())
    if misnamed:
        first = measured.names[int(np.argmax(measured.facts['misnamed']))]
        yield Finding('misnamed', 'note', f'{misnamed:,} files are of another format than their name says ({first})')


def check_classes(audited: Audited) -> Iterator[Finding]:
    """Empty and rare classes, by split and source, and balance that changes between splits."""
    measured = audited.measured
    counts = {
        split: {name: int(audited.rows(index, label, False).sum()) for name, label in LABELS.items()}
        for index, split in enumerate(measured.splits)
    }
    sources: dict[str, dict[str, dict[str, int]]] = {split: {} for split in measured.splits}
    tally = collections.Counter(zip(measured.split.tolist(), audited.generators, audited.labels.tolist(), strict=True))
    for (split, source, label), count in sorted(tally.items()):
        row = sources[measured.splits[split]].setdefault(source, dict.fromkeys(LABELS, 0))
        row[list(LABELS)[label]] = count
    details = {'counts': counts, 'sources': sources}
    shares = {split: row['fake'] / max(1, sum(row.values())) for split, row in counts.items()}
    listed = '; '.join(f'{split} {row["real"]:,} real, {row["fake"]:,} fake' for split, row in counts.items())
    empty = [f'{split} has no {name}' for split, row in counts.items() for name, count in row.items() if not count]
    if empty:
        yield Finding('classes', 'fail', f'{", ".join(empty)} images ({listed})', 'add the missing class.', details)
        return
    rare = [split for split, share in shares.items() if min(share, 1 - share) < MINORITY_LINE]
    if rare:
        yield Finding('classes', 'warn', f'one class is rare in {", ".join(rare)}: {listed}',
                      'judge by AUC and balanced figures, not by accuracy.', details)  # fmt: skip
    elif max(shares.values()) - min(shares.values()) > BALANCE_LINE:
        yield Finding('classes', 'warn', f'the classes are mixed differently in each split: {listed}',
                      'a threshold chosen on one split will be wrong on another.', details)  # fmt: skip
    else:
        yield Finding('classes', 'ok', listed, '', details)


def check_copies(audited: Audited, exact: copies.Exact) -> Iterator[Finding]:
    """Images whose decoded pixels, or bytes, are the same."""
    measured = audited.measured
    found = copies.relate(exact.pixels, measured.split, audited.labels)
    by_bytes = copies.relate(exact.bytes, measured.split, audited.labels)
    yield _across('copies across splits', found, by_bytes, audited, 'fail', 'the same pixels')
    yield _contradicting(found)
    surplus = {
        f'{measured.splits[split]}/{list(LABELS)[label]}': int(count)
        for (split, label), count in np.ndenumerate(found.surplus)
        if count
    }
    total, same_bytes = sum(surplus.values()), int(by_bytes.surplus.sum())
    if total:
        listed = ', '.join(f'{count:,} in {place}' for place, count in surplus.items())
        yield Finding(
            'copies within splits',
            'warn',
            f'{total:,} images repeat one of their own split and class ({listed}; {same_bytes:,} byte for byte)',
            'prepare --dedupe keeps one of each; a validation split carved out of train would share them with it.',
            {'surplus': surplus, 'bytes': same_bytes},
            found.within,
        )
    else:
        yield Finding('copies within splits', 'ok', 'no image repeats one of its own split and class')


def check_near_copies(audited: Audited, exact: copies.Exact) -> Iterator[Finding]:
    """Images that are the same but for compression, size, format or brightness, exact copies apart."""
    measured = audited.measured
    near = copies.find_near(measured.facts, exact)
    found = copies.relate(near, measured.split, audited.labels, known=exact.pixels)
    share = max((count / audited.rows(late).sum() for (_, late), count in found.leaks.items()), default=0.0)
    level = 'fail' if share > NEAR_LINE else 'warn'
    yield _across('near copies across splits', found, None, audited, level, 'nearly the same image')
    if found.contradicting:
        yield Finding(
            'near copies with both labels',
            'note',
            f'{found.contradicting:,} images nearly repeat one of the other class: wrong labels, or forgeries of '
            'the same photo',
            '',
            {'images': found.contradicting},
            found.both,
        )
    total = int(found.surplus.sum())
    if total:
        yield Finding('near copies within splits', 'note', f'{total:,} images nearly repeat one of their own split',
                      '', {'surplus': total}, found.within)  # fmt: skip


def _across(
    name: str, found: copies.Relations, by_bytes: copies.Relations | None, audited: Audited, level: str, what: str
) -> Finding:
    splits = audited.measured.splits
    if not found.leaks:
        return Finding(name, 'ok', f'no image of one split has {what} in another')
    listed, details = [], []
    for (early, late), count in sorted(found.leaks.items()):
        size = int(audited.rows(late, readable=False).sum())
        exactly = by_bytes.leaks.get((early, late), 0) if by_bytes else 0
        same = f', {exactly:,} byte for byte' if by_bytes else ''
        listed.append(f'{count:,} of {size:,} in {splits[late]} are in {splits[early]} ({count / size:.2%}{same})')
        by_class = {class_name: int(found.leaks_by_label.get((early, late, label), 0))
                    for class_name, label in LABELS.items()}  # fmt: skip
        row = {'of': splits[late], 'in': splits[early], 'count': count, 'share': count / size, **by_class}
        details.append({**row, 'bytes': exactly} if by_bytes else row)
    return Finding(name, level, f'{what}: {"; ".join(listed)}',
                   'prepare --dedupe drops them from the later split.' if by_bytes else
                   'look at the pairs; prepare --dedupe --near drops them from the later split.',
                   {'leaks': details}, found.across)  # fmt: skip


def _contradicting(found: copies.Relations) -> Finding:
    name = 'copies with both labels'
    if not found.contradicting:
        return Finding(name, 'ok', 'no image has the same pixels in both classes')
    return Finding(
        name,
        'fail',
        f'the same pixels are called real and fake: {found.contradicting:,} images',
        'one of the labels is wrong; prepare --dedupe leaves all of them out.',
        {'images': found.contradicting},
        found.both,
    )


def check_groups(audited: Audited) -> Iterator[Finding]:
    """Groups (photos, identities, videos) with images in several splits."""
    homes: dict[str, dict[int, int]] = collections.defaultdict(dict)
    for row, (group, split) in enumerate(zip(audited.groups, audited.measured.split.tolist(), strict=True)):
        if group:
            homes[group].setdefault(split, row)
    straddling = {group: rows for group, rows in homes.items() if len(rows) > 1}
    if straddling:
        yield Finding(
            'groups',
            'fail',
            f'{len(straddling):,} of {len(homes):,} groups have images in several splits '
            f'(first: {next(iter(straddling))!r})',
            'put all images of a group into one split; one photo or person on both sides flatters a detector.',
            {'straddling': len(straddling), 'groups': len(homes), 'names': sorted(straddling)[:1000]},
            [(rows[0], rows[1]) for rows in map(list, map(dict.values, straddling.values()))][: copies.PAIRS_SHOWN],
        )
    elif homes:
        yield Finding('groups', 'ok', f'none of {len(homes):,} groups has images in several splits')
