"""What processes that train together tell each other."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lapel.sampling import share


def rank_and_ranks() -> tuple[int, int]:
    """This process's rank, and how many processes train together."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


class GatherRows(torch.autograd.Function):
    """Concatenates the rows of all processes, which may differ in number, with their gradients.

    Every process computes the same loss on the result, and DDP averages gradients over the processes: summing the
    incoming gradients here gives each process N times its share of the gradient, and the average the whole of it, once.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor, sizes: list[int], rank: int) -> Tensor:
        """Local `[sizes[rank], dimensions]` to `[sum(sizes), dimensions]`, in the order of the ranks."""
        ctx.part = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        # Uneven lengths give garbage or hang on gloo: pad to the longest, then cut.
        padded = local.new_zeros(max(sizes), *local.shape[1:])
        padded[: len(local)] = local
        gathered = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(gathered, padded)
        return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The sum over the processes of the gradients of this process's rows."""
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.part], None, None


def of_all_processes(local: Tensor, total: int) -> Tensor:
    """The rows of all processes, with their gradients: `[total, …]`, of which each process has its share."""
    rank, ranks = rank_and_ranks()
    if ranks == 1:
        return local
    parts = [share(total, each, ranks) for each in range(ranks)]
    return GatherRows.apply(local, [part.stop - part.start for part in parts], rank)


class Agreement:
    """The highest numbers that any process has: what all of them must do after the same step.

    With several processes an answer is that to the question before, so that nobody waits for the others, nor for what
    the GPU still has to do: the numbers go over the network of the CPUs, beside the gradients.
    """

    def __init__(self) -> None:
        self.group: Any = None
        self.asked: tuple[Any, Tensor] | None = None

    def highest(self, numbers: list[int]) -> list[int]:
        """Of each number; 0 for the first question of several processes."""
        if rank_and_ranks()[1] == 1:
            return numbers
        if self.group is None:
            self.group = dist.new_group(backend="gloo")
        answer = self.settled() or [0] * len(numbers)
        shared = torch.tensor(numbers)
        self.asked = dist.all_reduce(shared, dist.ReduceOp.MAX, group=self.group, async_op=True), shared
        return answer

    def settled(self) -> list[int]:
        """The answer to the last question; empty where none is open."""
        if self.asked is None:
            return []
        (work, shared), self.asked = self.asked, None
        work.wait()
        return shared.tolist()


def share_buffers(module: nn.Module) -> None:
    """Give all processes the first one's buffers: the running statistics of normalisation, which each has of its own.

    DDP would do it at every step; they are looked at in validation and checkpoints alone.
    """
    if rank_and_ranks()[1] > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
