"""Running the services: restarts, signals, who may look, what a cut connection costs, and what stands in the logs."""

from __future__ import annotations

import asyncio
import http.client
import re
import signal
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from secagg.client import Progress, RoundResult
from secagg.errors import NotAllowedError
from secagg.identity import Party, Role
from secagg.messages.job import JobState
from secagg.messages.round import Phase, RoundStatus
from secagg.plan import JobSpec, TensorSpec
from secagg.transport import error_from_rpc, open_channel
from secagg.wire.v1 import client_service_pb2 as pb
from tests.files_on_disk import matching
from tests.live_deployment import COORDINATOR, OPERATOR, LiveDeployment
from tests.live_jobs import HOLDERS, error_bound, largest_error, live_job, updates_of, weights_of
from tests.live_process import LiveProcess, ReservedPort
from tests.round_cluster import CALL_SECONDS, eventually, parts_of

CLIENTS = ("alice", "bob", "carol")
NORTH = Party(role=Role.KEY_HOLDER, name="north")
DRAIN_SECONDS = 12.0
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDeployment]:
    made = LiveDeployment(tmp_path_factory.mktemp("live"), log_level="debug")
    try:
        made.start()
        yield made
    finally:
        made.close()


def end(process: LiveProcess, number: signal.Signals) -> None:
    if number is signal.SIGKILL:
        process.kill()
    else:
        assert process.terminate() == 0


async def rounds_of(live: LiveDeployment, spec: JobSpec) -> list[RoundStatus]:
    return [status async for status in live.operator().rounds(spec.job)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_between_rounds_loses_nothing(live: LiveDeployment, number: signal.Signals) -> None:
    spec = await live.create(live_job(rounds=2))
    first = await live.published(spec, CLIENTS)
    plan = first.plan
    assert plan is not None
    _, mean = await live.scripted("alice").result(plan)
    await live.hang_up()
    end(live.coordinator, number)
    live.heal()
    job = await live.operator().get_job(spec.job)
    assert (job.spec, job.state, job.published_rounds) == (spec, JobState.RUNNING, 1)
    assert await live.operator().get_round(spec.job, first.round) == first
    _, again = await live.scripted("bob").result(plan)
    assert all(np.array_equal(again[name], mean[name]) for name in mean)
    results = await live.take_part(spec, CLIENTS, after=1)
    weights = weights_of(CLIENTS)
    for result in results.values():
        assert isinstance(result, RoundResult), repr(result)
        assert result.round > 1
        assert largest_error(result.mean, updates_of(spec, CLIENTS).values(), weights.values()) < error_bound(
            spec, weights
        )
    rounds = await rounds_of(live, spec)
    assert [one.round for one in rounds] == [*range(1, len(rounds) + 1)]
    assert rounds[-1].phase is Phase.PUBLISHED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_inside_a_round_costs_nobody_anything(live: LiveDeployment, number: signal.Signals) -> None:
    spec = await live.create(live_job(tensors=(TensorSpec(name="w", shape=(4000,), dtype="float32"),)))
    uploaded = asyncio.Event()

    def watch(progress: Progress) -> None:
        if progress.phase is Phase.UPLOADING and progress.done == progress.total:
            uploaded.set()

    updates, weights = updates_of(spec, CLIENTS), weights_of(CLIENTS)
    waiting = asyncio.create_task(
        live.client("alice").participate(spec.job, updates["alice"], weights["alice"], progress=watch)
    )
    others = [live.scripted(name) for name in CLIENTS[1:]]
    plan, key = await others[0].wait_for_round(spec.job)
    prepared = [
        await asyncio.to_thread(other.prepare, plan, key, updates[other.name], weights[other.name]) for other in others
    ]
    for other, one in zip(others, prepared, strict=True):
        await other.join(one)
    await asyncio.wait_for(uploaded.wait(), CALL_SECONDS)
    began = time.monotonic()
    end(live.coordinator, number)
    assert time.monotonic() - began < DRAIN_SECONDS
    live.heal()
    others = [live.scripted(name) for name in CLIENTS[1:]]
    await asyncio.gather(*(other.upload(one) for other, one in zip(others, prepared, strict=True)))
    result = await asyncio.wait_for(waiting, CALL_SECONDS)
    assert (result.round, result.contributors) == (plan.round, tuple(sorted(CLIENTS)))
    assert largest_error(result.mean, updates.values(), weights.values()) < error_bound(spec, weights)
    (status,) = await rounds_of(live, spec)
    assert (status.phase, status.uploaded) == (Phase.PUBLISHED, len(CLIENTS))
    blobs = live.directory / "coordinator" / "blobs"
    await eventually(lambda: not matching(blobs, f"uploads/{spec.job}/1/**/*"))


async def test_a_key_holder_that_restarts_keeps_its_share_and_answers(live: LiveDeployment) -> None:
    spec = await live.create(live_job(max_clients=2))
    await live.reached(spec, Phase.OPEN)
    for holder, number in zip(HOLDERS[:2], (signal.SIGTERM, signal.SIGKILL), strict=True):
        end(live.services[holder], number)
    live.start_services(HOLDERS[:2])
    status = await live.published(spec, CLIENTS[:2])
    assert status.answers >= 4


async def test_an_upload_that_is_cut_goes_on_where_it_broke(live: LiveDeployment) -> None:
    spec = await live.create(
        live_job(max_clients=2, tensors=(TensorSpec(name="w", shape=(100_000,), dtype="float32"),))
    )
    alice, bob = live.scripted("alice"), live.client("bob")
    updates, weights = updates_of(spec, CLIENTS[:2]), weights_of(CLIENTS[:2])
    plan, key = await alice.wait_for_round(spec.job)
    prepared = await asyncio.to_thread(alice.prepare, plan, key, updates["alice"], weights["alice"])
    await alice.join(prepared)
    result = asyncio.create_task(bob.participate(spec.job, updates["bob"], weights["bob"]))
    signed = alice.upload_message(prepared, await alice.wait_for_roster(plan))
    parts = parts_of(prepared.ciphertext, size=2**18)
    await _cut_off_after(live, spec, signed, parts[:3])
    offsets = await alice.offsets(plan)
    assert (offsets.c0_bytes, offsets.c1_bytes, offsets.complete) == (3 * 2**18, 0, False)
    await alice.send(prepared, signed, parts[3:])
    await alice.complete(prepared, signed)
    found = await asyncio.wait_for(result, CALL_SECONDS)
    assert largest_error(found.mean, updates.values(), weights.values()) < error_bound(spec, weights)


async def _cut_off_after(live: LiveDeployment, spec: JobSpec, signed: Any, parts: list[pb.UploadPart]) -> None:
    """Send some parts, wait until they are on file, and close the connection in the midst of the call."""
    channel = open_channel(live.address, live.identity(Role.CLIENT, "alice"), target=COORDINATOR)
    stub = type(live.scripted("alice").stub)(channel)
    call = stub.UploadHalves(timeout=CALL_SECONDS)
    header = pb.UploadHeader(request_id=uuid4().hex, job=spec.job, round=1, upload=signed)
    await call.write(pb.UploadHalvesRequest(header=header))
    for part in parts:
        await call.write(pb.UploadHalvesRequest(part=part))
    sent = sum(len(part.data) for part in parts)
    request = pb.GetUploadOffsetsRequest(job=spec.job, round=1)
    async with asyncio.timeout(CALL_SECONDS):
        while (await stub.GetUploadOffsets(request, timeout=CALL_SECONDS)).c0_bytes < sent:  # noqa: ASYNC110 - its disk
            await asyncio.sleep(0.02)
    await channel.close()


def ask(address: str, live: LiveDeployment, caller: Party, target: Party, what: str) -> object:
    """Ask a server for its health or its services; raise what it refuses."""
    with grpc.secure_channel(
        address,
        grpc.ssl_channel_credentials(*_pems(live, caller)),
        options=[("grpc.ssl_target_name_override", target.server_name)],
    ) as channel:
        try:
            if what == "health":
                request = health_pb2.HealthCheckRequest(service="")
                return health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status
            asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=10)
            return {service.name for service in next(answers).list_services_response.service}
        except grpc.RpcError as failed:
            raise error_from_rpc(failed) from failed  # type: ignore[arg-type]


def _pems(live: LiveDeployment, party: Party) -> tuple[bytes, bytes, bytes]:
    identity = live.identity(party.role, party.name)
    return identity.authority_pem, identity.private_key_pem, identity.certificate_pem


AUDITOR, ALICE = Party(role=Role.AUDITOR, name="ada"), Party(role=Role.CLIENT, name="alice")


@pytest.mark.parametrize(
    ("target", "service", "allowed", "refused"),
    [
        (COORDINATOR, "secagg.wire.v1.ClientService", (OPERATOR, AUDITOR, ALICE), (NORTH, COORDINATOR)),
        (NORTH, "secagg.wire.v1.KeyHolderService", (OPERATOR, AUDITOR, COORDINATOR), (ALICE, NORTH)),
    ],
)
async def test_health_and_reflection_answer_who_may_ask(
    live: LiveDeployment, target: Party, service: str, allowed: tuple[Party, ...], refused: tuple[Party, ...]
) -> None:
    address = live.address if target is COORDINATOR else live.addresses[target.name]
    for caller in allowed:
        assert await asyncio.to_thread(ask, address, live, caller, target, "health") == SERVING
        assert service in await asyncio.to_thread(ask, address, live, caller, target, "services")  # type: ignore[operator]
    for caller in refused:
        for what in ("health", "services"):
            with pytest.raises(NotAllowedError):
                await asyncio.to_thread(ask, address, live, caller, target, what)


def metrics(live: LiveDeployment, caller: Party) -> tuple[int, str]:
    context = ssl.create_default_context(cafile=str(live.identity(caller.role, caller.name).paths.authority))
    paths = live.identity(caller.role, caller.name).paths
    context.load_cert_chain(paths.certificate, paths.private_key)
    connection = http.client.HTTPSConnection("localhost", live.ports["metrics"].number, context=context, timeout=10)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    found = (answer.status, answer.read().decode())
    connection.close()
    return found


async def test_metrics_count_a_round_and_are_for_operators_and_auditors(live: LiveDeployment) -> None:
    def counted() -> dict[str, float]:
        status, text = metrics(live, AUDITOR)
        assert status == http.client.OK
        return {
            name: float(value)
            for name, value in re.findall(r"^(secagg_\w+(?:\{[^}]*\})?) ([0-9.e+]+)$", text, flags=re.MULTILINE)
        }

    before = await asyncio.to_thread(counted)
    await live.published(await live.create(live_job(max_clients=2)), CLIENTS[:2])
    published = 'secagg_rounds_total{end="published"}'
    async with asyncio.timeout(CALL_SECONDS):
        # A round is counted when it is cleaned up, after its clients have their result.
        while (after := await asyncio.to_thread(counted)).get(published, 0) == before.get(published, 0):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert after[published] == before.get(published, 0) + 1
    assert after["secagg_contributions_total"] == before["secagg_contributions_total"] + 2
    assert (await asyncio.to_thread(metrics, live, OPERATOR))[0] == http.client.OK
    assert (await asyncio.to_thread(metrics, live, ALICE))[0] == http.client.FORBIDDEN


def refusal(name: str, arguments: list[str], directory: Path) -> str:
    """Run a service that must refuse to start; return the line that says why."""
    process = LiveProcess(name=name, arguments=arguments, log=directory / f"{name}.refused.log")
    process.start()
    assert process.process is not None
    assert process.process.wait(CALL_SECONDS) == 1
    text = process.text()
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if line.startswith(("error: ", "next step: "))]
    assert [line.split(":")[0] for line in lines] == ["error", "next step"], text
    return lines[0]


SERVE = {
    "coordinator": ["secagg.cli.main", "coordinator", "serve", "--config"],
    "north": ["secagg.cli.main", "key-holder", "serve", "--config"],
}


def serve_with(live: LiveDeployment, directory: Path, name: str, **changes: str) -> str:
    """Start one more service with its own data directory and one thing wrong."""
    own = {"data_dir": f'"{directory / "data"}"', **changes}
    write = live.coordinator_config if name == "coordinator" else lambda **lines: live.holder_config(name, **lines)
    config = directory / "refused.toml"
    try:
        config.write_text(write(**own).read_text())
    finally:
        write()
    return refusal(name, [*SERVE[name], str(config)], directory)


@pytest.mark.parametrize("name", ["coordinator", "north"])
async def test_a_port_in_use_is_one_clear_line(live: LiveDeployment, tmp_path: Path, name: str) -> None:
    address = live.ports[name].address
    assert f"{address} is in use" in await asyncio.to_thread(serve_with, live, tmp_path, name)
    # The one that was there first still answers.
    assert live.services[name].running


@pytest.mark.parametrize("name", ["coordinator", "north"])
async def test_an_expired_or_foreign_certificate_is_one_clear_line(
    live: LiveDeployment, tmp_path: Path, name: str
) -> None:
    port = ReservedPort()
    party = COORDINATOR if name == "coordinator" else NORTH
    old = LiveDeployment(tmp_path / "old")
    old.close()
    expired = old.authority.pki.issue(party, at=datetime.now(UTC) - timedelta(days=3), days=1)
    for identity, words in ((expired, "expired"), (live.path(Role.OPERATOR, "olga"), "operator/olga")):
        listen = {"listen": f'"{port.address}"', "identity": f'"{identity}"'}
        assert words in await asyncio.to_thread(serve_with, live, tmp_path, name, **listen)
    port.release()


LONG_HEX = re.compile(r"[0-9a-fA-F]{129,}")
LONG_BASE64 = re.compile(r"[A-Za-z0-9+/]{100,}")
LONG_BYTES = re.compile(r"(?:\\+x[0-9a-f]{2}.{0,4}){12,}")


async def test_logs_hold_no_vector_no_weight_and_no_key_even_when_they_hold_everything_else(
    live: LiveDeployment,
) -> None:
    spec = await live.create(live_job(rounds=2))
    updates = {name: np.full((80, 60), value, np.float32) for name, value in zip(CLIENTS, SECRETS, strict=True)}
    biases = {name: np.full(7, -value) for name, value in zip(CLIENTS, SECRETS, strict=True)}
    results = await asyncio.gather(
        *(
            live.client(name).participate(spec.job, {"w": updates[name], "b": biases[name]}, weight)
            for name, weight in zip(CLIENTS, SECRET_WEIGHTS, strict=True)
        )
    )
    await live.reached(spec, Phase.OPEN, round=2)
    texts = {name: service.text(whole=True) for name, service in live.services.items()}
    assert all('"level": "debug"' in text for text in texts.values())
    assert spec.job in texts["coordinator"]
    mean = float(results[0].mean["w"][0, 0])
    told = [*(f"{value:.5f}"[:-1] for value in (*SECRETS, *SECRET_WEIGHTS, mean)), "PRIVATE KEY", "correct horse"]
    for name, text in texts.items():
        assert not [word for word in told if word in text], name
        for pattern in (LONG_HEX, LONG_BASE64, LONG_BYTES):
            found = pattern.search(text)
            assert found is None, (name, found)


SECRETS = (0.731235, -0.418467, 0.296643)
SECRET_WEIGHTS = (91.377317, 77.713913, 83.191937)
"""Above 60, so that no second of a timestamp looks like one."""
