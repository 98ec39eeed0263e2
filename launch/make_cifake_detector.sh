#!/usr/bin/env bash
# Makes the detector in the package, fakeimg/detectors/cifake, from CIFAKE: two seeds are trained (20 minutes each on
# two cores), the one with the higher validation AUC is taken, and its weights are rounded to float16. Thresholds and
# calibration are then fitted on validation with the rounded weights, and the figures of the card are theirs.
#
#   launch/make_cifake_detector.sh DATASET     DATASET is the folder {train,test}/{REAL,FAKE} of Kaggle's archive
#
# Run it in the repository. What is there already is not made again; the test set is scored for the card alone.
set -euo pipefail

detector=fakeimg/detectors/cifake
if [ -e "$detector" ]; then
  echo "$detector exists; remove it first." >&2
  exit 2
fi
[ -e data/CIFAKE ] || fakeimg prepare "$1" --out data/CIFAKE
for seed in 0 1; do
  fakeimg train --config cifake_large --config.validate_every_epochs=2 --config.data.path=data/CIFAKE \
    --config.seed="$seed" --workdir "runs/cifake_large-$seed"
  fakeimg evaluate --workdir "runs/cifake_large-$seed"
done
best=$(python - runs/cifake_large-0 runs/cifake_large-1 <<'PYTHON'
import json, sys


def validation_auc(run):
    with open(f'{run}/metrics.jsonl') as rows:
        return max(json.loads(row).get('validation/auc', 0) for row in rows)


print(max(sys.argv[1:], key=validation_auc))
PYTHON
)
mkdir -p "$(dirname "$detector")"
fakeimg push "$best" --out "$detector" --float16 --moved_to data/CIFAKE --license apache-2.0 \
  --about launch/cifake_detector.md
