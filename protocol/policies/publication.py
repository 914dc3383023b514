"""What a published policy version must be, for whoever takes it: orchestrator, worker, trainer, auditor. Pure."""

import math

from protocol.errors import Malformed
from protocol.policies.manifest import SignedManifest, policy_digest
from protocol.run import RunSpec
from protocol.signing import Domain, require_signer


def check_manifest(
    signed: SignedManifest, *, run_id: int, version: int, spec: RunSpec, domain: Domain
) -> None:
    """Raise a `MarketError` unless the run's trainer signed exactly this version.

    The size is bounded by the agreed parameter count before anything is downloaded.
    """
    manifest = signed.manifest
    require_signer(domain.digest(manifest), signed.signature, spec.trainer, "the manifest")
    if (manifest.run_id, manifest.version) != (run_id, version):
        raise Malformed(
            f"the manifest is of run {manifest.run_id}, version {manifest.version}, not of run "
            f"{run_id}, version {version}"
        )
    names = [entry.name for entry in manifest.tensors]
    if names != sorted(set(names)):
        raise Malformed("the manifest's tensors are not strictly in order of name")
    found = policy_digest(manifest.tensors)
    if found != manifest.policy_digest:
        raise Malformed(
            f"the manifest's tensors make policy 0x{found.hex()}, it says "
            f"0x{manifest.policy_digest.hex()}"
        )
    if version == 0 and found != spec.model_digest:
        raise Malformed(
            f"version 0 is 0x{found.hex()}, not the model that the run agreed on, "
            f"0x{spec.model_digest.hex()}: publish that one"
        )
    num_parameters = sum(math.prod(entry.shape) for entry in manifest.tensors)
    if num_parameters > spec.num_parameters:
        raise Malformed(
            f"the manifest has {num_parameters} parameters, the run agreed on {spec.num_parameters}"
        )
    if not manifest.anchor or manifest.anchor_version > version:
        raise Malformed("name an anchor of this version or an older one: new workers start there")
    if any(patch.base_version >= version for patch in manifest.patches):
        raise Malformed("a patch leads from an older version to this one")
