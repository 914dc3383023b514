"""Check and publish a policy version: signed by the trainer, next in line, and all there.

What made it is checked too: its step record lists exactly the groups of the batch that the step was
given, so that no trainer leaves one out of what it signs.
"""

from orchestrator.run import Run
from orchestrator.services import Services
from orchestrator.store.events import event_body
from orchestrator.store.journal import Kind, numbered
from protocol.errors import Malformed, NotFound, PolicyOutOfOrder
from protocol.messages import Batch
from protocol.policies.lineage import (
    MAX_RECORDS_BYTES,
    NO_LINEAGE,
    Records,
    StepRecord,
    read_record,
)
from protocol.policies.manifest import Blob, Manifest, SignedManifest
from protocol.policies.publication import check_manifest


async def publish(services: Services, run: Run, signed: SignedManifest) -> None:
    """Make a policy the newest; the same manifest again is no error."""
    try:
        await _publish(services, run, signed)
    except (Malformed, NotFound, PolicyOutOfOrder):
        # What is missed may only be forgotten; a trainer that is told otherwise ends.
        await services.store.runs.require_restored(run.run_id)
        raise


async def _publish(services: Services, run: Run, signed: SignedManifest) -> None:
    manifest, domain = signed.manifest, services.chain.domain
    version = manifest.version
    check_manifest(signed, run_id=run.run_id, version=version, spec=run.spec, domain=domain)
    if await _is_known(services, run, signed):
        await _use_blobs(services, run, manifest)
        return
    await _require_blobs(services, manifest)
    await _require_lineage(services, run, manifest)
    await services.journal.keep(run.run_id, Kind.POLICY, numbered(version), signed.to_json())
    event = event_body(run.run_id, "policy", services.clock(), _sizes(manifest))
    newest = await services.store.policies.publish(
        run.run_id, signed, max_staleness=run.spec.max_staleness, event=event
    )
    if newest != version and not await _is_known(services, run, signed):
        raise PolicyOutOfOrder(f"version {version} was offered, version {newest + 1} is next")
    await _use_blobs(services, run, manifest)
    await services.refresh(run)


async def manifest_of(services: Services, run: Run, version: str) -> bytes:
    """Return a version's signed manifest as JSON; `latest` names the newest."""
    if version == "latest":
        newest = await services.store.policies.newest(run.run_id)
        version = str(newest if newest is not None else -1)
    raw = await services.store.policies.manifest(run.run_id, version)
    if raw is None:
        await services.store.runs.require_restored(run.run_id)
        raise NotFound(f"run {run.run_id} has no policy version {version}")
    return raw


async def records_of(services: Services, run: Run, first: int, last: int) -> Records:
    """Return the step records of versions `first` … `last`, as many as one answer holds.

    At least one, where there is one: whoever wants the rest asks again from where this ends.
    """
    first = max(1, first)
    versions = range(first, last + 1)
    digests = await services.store.policies.step_records(run.run_id, versions or (first,))
    found: list[bytes] = []
    room = MAX_RECORDS_BYTES
    for _, digest in zip(versions, digests, strict=False):
        if digest is None or room <= 0:
            break
        found.append(await services.blobs.get(digest))
        room -= len(found[-1])
    if not found:
        raise NotFound(f"run {run.run_id} has no step records of versions {first} to {last}")
    return Records(run_id=run.run_id, first=first, records=tuple(found))


async def _is_known(services: Services, run: Run, signed: SignedManifest) -> bool:
    version = signed.manifest.version
    raw = await services.store.policies.manifest(run.run_id, version)
    if raw is None:
        return False
    if SignedManifest.from_json(raw).manifest != signed.manifest:
        raise PolicyOutOfOrder(
            f"version {version} is published with other content: publish a version once, unchanged"
        )
    return True


async def _use_blobs(services: Services, run: Run, manifest: Manifest) -> None:
    """Give a trainer the room back that a policy's parts took; a crash before is made good by publishing again."""
    parts = {blob.digest for blob in _parts(manifest)}
    named = {run.spec.model_config_digest, run.spec.tokenizer_digest, manifest.lineage}
    await services.store.runs.use_blobs(run.spec.trainer, [*parts, *named])


def _parts(manifest: Manifest) -> list[Blob]:
    return [*manifest.anchor, *(chunk for patch in manifest.patches for chunk in patch.chunks)]


async def _require_blobs(services: Services, manifest: Manifest) -> None:
    for blob in _parts(manifest):
        size = await services.blobs.size(blob.digest)
        if size != blob.size:
            found = "missing" if size is None else f"{size} bytes"
            raise NotFound(
                f"blob 0x{blob.digest.hex()} of {blob.size} bytes is {found}: upload every chunk "
                "before the manifest"
            )


async def _require_lineage(services: Services, run: Run, manifest: Manifest) -> None:
    """Raise unless the manifest's step record is there, follows the last one, and hides no group."""
    version = manifest.version
    if version == 0:
        if manifest.lineage != NO_LINEAGE:
            raise Malformed("version 0 has no lineage: nothing shaped it, so its field is zero")
        return
    known = await services.store.policies.step_record(run.run_id, version - 1)
    if known is None:
        raise PolicyOutOfOrder(f"version {version} was offered before version {version - 1}")
    data = await services.blobs.get(manifest.lineage)
    record = read_record(data, digest=manifest.lineage, run_id=run.run_id, version=version)
    if record.previous != known:
        raise Malformed(
            f"the record of version {version} follows 0x{record.previous.hex()}, version "
            f"{version - 1} has 0x{known.hex()}: chain it to the published one"
        )
    raw = await services.store.batches.batch(run.run_id, version - 1)
    _check_record(run, record, Batch.from_json(raw) if raw is not None else None)


def _check_record(run: Run, record: StepRecord, batch: Batch | None) -> None:
    entries = batch.groups if batch is not None else ()
    if len(record.groups) != len(entries):
        raise Malformed(
            f"the record of version {record.version} lists {len(record.groups)} groups, the batch "
            f"of its step had {len(entries)}: list them all, with 0 tokens for what was left out"
        )
    for group, entry in zip(record.groups, entries, strict=True):
        if not group.is_of(entry):
            raise Malformed(
                f"the record of version {record.version} says another thing of group "
                f"0x{entry.work_digest.hex()} than the batch: copy its entry, in its order"
            )
        if max(group.tokens, default=0) > run.spec.max_tokens:
            raise Malformed(
                f"group 0x{entry.work_digest.hex()} has a rollout of {max(group.tokens)} tokens, the "
                f"run allows {run.spec.max_tokens}"
            )


def _sizes(manifest: Manifest) -> dict[str, int | str]:
    patch = sum(blob.size for blob in manifest.patches[0].chunks) if manifest.patches else 0
    return {
        "version": manifest.version,
        "digest": "0x" + manifest.policy_digest.hex(),
        "patch_bytes": patch,
        "anchor_bytes": manifest.size(),
        "anchor_version": manifest.anchor_version,
    }
