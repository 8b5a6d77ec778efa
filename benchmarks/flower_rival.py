"""Flower's own FedAvg around the same local training as Spry's: its strategy, its records, its messages."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from spry.experiment.atomic import write_json
from spry.experiment.build import Experiment, build
from spry.experiment.config import read_record
from spry.federated.algorithm import ServerState
from spry.wire.messages import Weights

client = ClientApp()
server = ServerApp()


@cache
def experiment_of(path: str) -> Experiment:
    """Load model and data, as a Spry node does."""
    return build(read_record(Path(path)))


@client.train()
def train(message: Message, context: Context) -> Message:
    """Train one client's share from the weights that came."""
    parts = experiment_of(str(context.run_config["config"]))
    number = int(context.node_config["partition-id"])
    round = int(message.content.config_records["config"]["server-round"]) - 1  # type: ignore[arg-type]
    weights = message.content.array_records["arrays"].to_torch_state_dict()
    state = ServerState(round=round, weights={n: weights[n] for n in parts.task.init()}, optimizer={})
    order = parts.algorithm.plan(state, [number], parts.key)[number]
    batches, examples = (
        parts.clients.batches(number, round, parts.key),
        parts.clients.examples(number),
    )
    reply = parts.algorithm.train(parts.task.loss, order, batches, examples).reply
    assert isinstance(reply.payload, Weights)
    content = RecordDict({
        "arrays": ArrayRecord(dict(reply.payload.values)),
        "metrics": MetricRecord({"num-examples": reply.examples, "loss": reply.loss}),
    })
    return Message(content, reply_to=message)


class Timed(FedAvg):
    """FedAvg that notes when each round began and ended, and what its records hold."""

    rounds: list[dict[str, float]]

    def configure_train(self, *arguments: object) -> Iterable[Message]:
        """Note what goes down."""
        begun, messages = time.perf_counter(), list(super().configure_train(*arguments))  # type: ignore[arg-type]
        self.rounds.append({"begun": begun, "bytes_down": sum(map(_content_bytes, messages))})
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Note what came up."""
        came = list(replies)
        found = super().aggregate_train(server_round, came)
        this = self.rounds[-1]
        this |= {
            "seconds": time.perf_counter() - this["begun"],
            "bytes_up": sum(map(_content_bytes, came)),
        }
        return found


def _content_bytes(message: Message) -> int:
    return sum(record.count_bytes() for record in message.content.values())


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, and write what they took."""
    settings = context.run_config
    parts, nodes = experiment_of(str(settings["config"])), int(settings["nodes"])
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    strategy.rounds = []
    result = strategy.start(grid, ArrayRecord(dict(parts.task.init())), num_rounds=int(settings["rounds"]))
    out = Path(str(settings["out"]))
    torch.save(result.arrays.to_torch_state_dict(), out.with_suffix(".pt"))
    write_json(out, {"rounds": strategy.rounds})
