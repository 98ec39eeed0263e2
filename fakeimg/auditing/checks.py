"""What is wrong with a data set: each check turns facts into findings, and knows the line not to be crossed."""

import collections
import math
from collections.abc import Iterator

import numpy as np

from fakeimg.auditing import copies
from fakeimg.auditing.finding import (
    AUDIT_AGAIN,
    KEEP_COPIES_TOGETHER,
    LEAVE_OUT_COPIES,
    LEAVE_OUT_NEAR_COPIES,
    Command,
    Evidence,
    Finding,
)
from fakeimg.auditing.shortcuts import check_shift, check_shortcuts
from fakeimg.data import formats
from fakeimg.data.labels import LABELS

BROKEN_LINE = 0.01  # share of a split; training stops over it too (config.data.max_bad_fraction)
BLACK = 8  # mean of the brightest channel, of 255, below which next to nothing can be seen
NEAR_LINE = 0.01  # share of a later split that nearly repeats an earlier one: as much as an accuracy is wrong by
MINORITY_LINE = 0.2  # share of the rarer class of a split
BALANCE_LINE = 0.1  # difference between the shares of fakes of two splits
BALANCED = Command('train', (('config.data.balanced_sampling', 'True'),))


def run_checks(evidence: Evidence) -> Iterator[Finding]:
    """Yields the findings of all checks, most plain ones first. Some take seconds."""
    yield from check_broken(evidence)
    yield from check_left_out(evidence)
    yield from check_black(evidence)
    yield from check_classes(evidence)
    exact = copies.find_exact(evidence.images.facts)
    yield from check_copies(evidence, exact)
    yield from check_near_copies(evidence, exact)
    yield from check_groups(evidence)
    yield from check_shortcuts(evidence, exact.pixels)
    yield from check_shift(evidence, exact.pixels)


def check_broken(evidence: Evidence) -> Iterator[Finding]:
    """Unreadable files by kind, and extensions that lie."""
    images = evidence.images
    counts: dict[str, dict[str, int]] = {}
    worst = 0.0
    for index, split in enumerate(images.splits):
        problems = images.facts['problem'][evidence.rows(index, readable=False)]
        kinds = collections.Counter(problem.decode() for problem in problems[problems != b''])
        if kinds:
            counts[split] = dict(kinds)
            worst = max(worst, kinds.total() / len(problems))
    if counts:
        listed = '; '.join(
            f'{split}: ' + ', '.join(f'{count:,} {kind.replace("_", " ")}' for kind, count in kinds.items())
            for split, kinds in counts.items()
        )
        broken = np.flatnonzero(images.facts['problem'] != b'').tolist()
        first = images.names[broken[0]] + ''.join(
            f': {images.reasons[row]}' for row in broken[:1] if row in images.reasons
        )
        yield Finding(
            'broken',
            'fail' if worst > BROKEN_LINE else 'warn',
            f'images that cannot be read: {listed} (first: {first})',
            'audit.json says why for each; get again what was cut short, convert the others, or let prepare leave them '
            'all out. Training skips them up to config.data.max_bad_fraction.',
            {
                'counts': counts,
                'names': [images.names[row] for row in broken],
                'reasons': {images.names[row]: images.reasons.get(row, '') for row in broken},
            },
            commands=[Command('prepare'), *_skipping(worst)],
        )
    else:
        yield Finding('broken', 'ok', f'all {len(images.names):,} images can be read')
    misnamed = 0 if evidence.is_prepared else int(images.facts['misnamed'].sum())
    if misnamed:
        first = images.names[int(np.argmax(images.facts['misnamed']))]
        yield Finding('misnamed', 'note', f'{misnamed:,} files are of another format than their name says ({first})',
                      'nothing to do: images are read by what they hold, not by their suffix.')  # fmt: skip


def _skipping(share: float) -> list[Command]:
    """What trains nevertheless where more images are broken than training skips."""
    share = math.ceil(share * 100) / 100
    return [Command('train', (('config.data.max_bad_fraction', f'{share}'),))] if share > BROKEN_LINE else []


def check_left_out(evidence: Evidence) -> Iterator[Finding]:
    """Files of the set that are no images, or images that cannot be read here."""
    for note in formats.describe_left_out(evidence.left_out):
        is_heif = any(kind.startswith('HEIC') for kind in evidence.left_out)
        advice = (
            "one class may lack most of its images: run pip install 'fakeimg[heif]', or convert the HEIC images, and "
            'audit again.'
            if is_heif
            else 'nothing to do, unless there are images among them: convert those to JPEG or PNG, and audit again.'
        )
        sentence = note.removeprefix('left out, as ')
        yield Finding('left out', 'warn' if is_heif else 'note', sentence, advice, {'counts': dict(evidence.left_out)},
                      commands=[AUDIT_AGAIN])  # fmt: skip


def check_black(evidence: Evidence) -> Iterator[Finding]:
    """Images that are nearly black, as files turn out whose range of values was misread."""
    facts = evidence.images.facts
    is_black = (facts['problem'] == b'') & (facts['mean'].max(-1) < BLACK)
    if is_black.any():
        shares = {split: is_black[evidence.rows(index)] for index, split in enumerate(evidence.images.splits)}
        counts = {split: int(black.sum()) for split, black in shares.items() if black.any()}
        level = 'warn' if any(black.mean() > BROKEN_LINE for black in shares.values() if len(black)) else 'note'
        listed = '; '.join(f'{split}: {count:,}' for split, count in counts.items())
        names = [evidence.images.names[row] for row in np.flatnonzero(is_black)]
        yield Finding('nearly black', level, f'images that are nearly black: {listed} (first: {names[0]})',
                      'a detector learns nothing from them; look at them, and save a file whose values use a part of '
                      'its range only again with 8 bits, or remove it; audit.json lists them. Then audit again.',
                      {'counts': counts, 'names': names}, commands=[AUDIT_AGAIN])  # fmt: skip


def check_classes(evidence: Evidence) -> Iterator[Finding]:
    """Empty and rare classes, by split and generator, and balance that changes between splits."""
    images = evidence.images
    counts = {
        split: {name: int(evidence.rows(index, label, False).sum()) for name, label in LABELS.items()}
        for index, split in enumerate(images.splits)
    }
    by_generator: dict[str, dict[str, dict[str, int]]] = {split: {} for split in images.splits}
    tally = collections.Counter(zip(images.split.tolist(), evidence.generators, evidence.labels.tolist(), strict=True))
    for (split, generator, label), count in sorted(tally.items()):
        row = by_generator[images.splits[split]].setdefault(generator, dict.fromkeys(LABELS, 0))
        row[list(LABELS)[label]] = count
    details = {'counts': counts, 'sources': by_generator}
    shares = {split: row['fake'] / max(1, sum(row.values())) for split, row in counts.items()}
    listed = '; '.join(f'{split} {row["real"]:,} real, {row["fake"]:,} fake' for split, row in counts.items())
    empty = [f'{split} has no {name}' for split, row in counts.items() for name, count in row.items() if not count]
    if empty:
        yield Finding('classes', 'fail', f'{", ".join(empty)} images ({listed})',
                      'a detector cannot be trained or judged on one class: add images of the missing one, or say with '
                      'label NAME=real or NAME=fake which folder holds them; then audit again.', details,
                      commands=[AUDIT_AGAIN])  # fmt: skip
        return
    rare = [split for split, share in shares.items() if min(share, 1 - share) < MINORITY_LINE]
    if rare:
        yield Finding('classes', 'warn', f'one class is rare in {", ".join(rare)}: {listed}',
                      'a detector that always answers with the other class is mostly right: judge by AUC and balanced '
                      'figures, not by accuracy, and train with balanced batches.', details,
                      commands=[BALANCED])  # fmt: skip
    elif max(shares.values()) - min(shares.values()) > BALANCE_LINE:
        yield Finding('classes', 'warn', f'the classes are mixed differently in each split: {listed}',
                      'a threshold chosen on one split will be wrong on another: judge by AUC, and train with balanced '
                      'batches.', details, commands=[BALANCED])  # fmt: skip
    else:
        yield Finding('classes', 'ok', listed, '', details)


def check_copies(evidence: Evidence, exact: copies.Exact) -> Iterator[Finding]:
    """Images whose decoded pixels, or bytes, are the same."""
    images = evidence.images
    relations = copies.relate(exact.pixels, images.split, evidence.labels)
    by_bytes = copies.relate(exact.bytes, images.split, evidence.labels)
    yield _across('copies across splits', relations, by_bytes, evidence, 'fail', 'the same pixels')
    yield _contradicting(relations)
    surplus = {
        f'{images.splits[split]}/{list(LABELS)[label]}': int(count)
        for (split, label), count in np.ndenumerate(relations.surplus)
        if count
    }
    total, same_bytes = sum(surplus.values()), int(by_bytes.surplus.sum())
    if total:
        listed = ', '.join(f'{count:,} in {place}' for place, count in surplus.items())
        yield Finding(
            'copies within splits',
            'warn',
            f'{total:,} images repeat one of their own split and class ({listed}; {same_bytes:,} byte for byte)',
            'they count several times in training and in every figure; prepare with dedupe keeps one of each.',
            {'surplus': surplus, 'bytes': same_bytes},
            relations.within,
            [LEAVE_OUT_COPIES],
        )
    else:
        yield Finding('copies within splits', 'ok', 'no image repeats one of its own split and class')


def check_near_copies(evidence: Evidence, exact: copies.Exact) -> Iterator[Finding]:
    """Images that are the same but for compression, size, format or brightness, exact copies apart."""
    images = evidence.images
    near = copies.find_near(images.facts, exact)
    relations = copies.relate(near, images.split, evidence.labels, known=exact.pixels)
    share = max((count / evidence.rows(late).sum() for (_, late), count in relations.leaks.items()), default=0.0)
    level = 'fail' if share > NEAR_LINE else 'warn'
    yield _across('near copies across splits', relations, None, evidence, level, 'nearly the same image')
    if relations.contradicting:
        yield Finding(
            'near copies with both labels',
            'note',
            f'{relations.contradicting:,} images nearly repeat one of the other class: wrong labels, or forgeries of '
            'the same photo',
            'look at the pairs in audit.html: nothing to do for forgeries, which prepare keeps with their photo on '
            'one side of its splits; move an image whose label is wrong.',
            {'images': relations.contradicting},
            relations.both,
            [KEEP_COPIES_TOGETHER],
        )
    total = int(relations.surplus.sum())
    if total:
        yield Finding('near copies within splits', 'note', f'{total:,} images nearly repeat one of their own split',
                      'nothing to do for these splits; where a split is made, prepare keeps them on one side of it.',
                      {'surplus': total}, relations.within, [KEEP_COPIES_TOGETHER])  # fmt: skip


def _across(
    name: str, relations: copies.Relations, by_bytes: copies.Relations | None, evidence: Evidence, level: str, what: str
) -> Finding:
    splits = evidence.images.splits
    if not relations.leaks:
        return Finding(name, 'ok', f'no image of one split has {what} in another')
    listed, details = [], []
    for (early, late), count in sorted(relations.leaks.items()):
        size = int(evidence.rows(late, readable=False).sum())
        exactly = by_bytes.leaks.get((early, late), 0) if by_bytes else 0
        same = f', {exactly:,} byte for byte' if by_bytes else ''
        listed.append(f'{count:,} of {size:,} in {splits[late]} are in {splits[early]} ({count / size:.2%}{same})')
        by_class = {class_name: int(relations.leaks_by_label.get((early, late, label), 0))
                    for class_name, label in LABELS.items()}  # fmt: skip
        row = {'of': splits[late], 'in': splits[early], 'count': count, 'share': count / size, **by_class}
        details.append({**row, 'bytes': exactly} if by_bytes else row)
    are_made = all({splits[early], splits[late]} <= evidence.made | {'train'} for early, late in relations.leaks)
    advice, command = ('prepare with dedupe drops them from the later split.', LEAVE_OUT_COPIES)
    if evidence.made and are_made:
        advice, command = 'these splits are made by fakeimg; prepare keeps copies on one side.', KEEP_COPIES_TOGETHER
    elif not by_bytes:
        advice = 'look at the pairs; prepare with dedupe and near drops them from the later split.'
        command = LEAVE_OUT_NEAR_COPIES
    return Finding(name, level, f'{what}: {"; ".join(listed)}',
                   f'figures on {splits[max(late for _, late in relations.leaks)]} flatter a detector that has seen '
                   f'them: {advice}', {'leaks': details}, relations.across, [command])  # fmt: skip


def _contradicting(relations: copies.Relations) -> Finding:
    name = 'copies with both labels'
    if not relations.contradicting:
        return Finding(name, 'ok', 'no image has the same pixels in both classes')
    return Finding(
        name,
        'fail',
        f'the same pixels are called real and fake: {relations.contradicting:,} images',
        'one of the labels is wrong; prepare with dedupe leaves all of them out.',
        {'images': relations.contradicting},
        relations.both,
        [LEAVE_OUT_COPIES],
    )


def check_groups(evidence: Evidence) -> Iterator[Finding]:
    """Groups (photos, identities, videos) with images in several splits."""
    homes: dict[str, dict[int, int]] = collections.defaultdict(dict)
    for row, (group, split) in enumerate(zip(evidence.groups, evidence.images.split.tolist(), strict=True)):
        if group:
            homes[group].setdefault(split, row)
    straddling = {group: rows for group, rows in homes.items() if len(rows) > 1}
    if straddling:
        yield Finding(
            'groups',
            'fail',
            f'{len(straddling):,} of {len(homes):,} groups have images in several splits '
            f'(first: {next(iter(straddling))!r})',
            'one photo, video or person on both sides flatters a detector: put all images of a group into one split, '
            'or all images below folders named real and fake alone, of which prepare makes splits with whole groups.',
            {'straddling': len(straddling), 'groups': len(homes), 'names': sorted(straddling)[:1000]},
            [(rows[0], rows[1]) for rows in map(list, map(dict.values, straddling.values()))][: copies.PAIRS_SHOWN],
            [KEEP_COPIES_TOGETHER],
        )
    elif homes:
        yield Finding('groups', 'ok', f'none of {len(homes):,} groups has images in several splits')
