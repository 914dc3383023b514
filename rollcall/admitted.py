"""The bounds a group is held to: the RunSpec's, or those of a class that a trial admitted since."""

from protocol.baseline import class_bounds
from protocol.messages import RunInfo
from protocol.verdict import Thresholds
from rollcall.reader import Reader


def bounds_of(reader: Reader, info: RunInfo, engine_class: str) -> Thresholds | None:
    """Return a class's bounds, recomputed from the baselines that admitted it; None without any.

    Whose signatures stand under the baselines is not looked at: verifiers do before they judge by them.
    """
    spec = info.spec
    known = spec.thresholds_for(engine_class)
    if known is not None or spec.trial is None:
        return known
    for admitted in reader.trials(info.run_id).admitted:
        if admitted.engine_class == engine_class:
            baselines = [signed.baseline for signed in admitted.baselines]
            return class_bounds(baselines, spec.thresholds, spec.trial)
    return None
