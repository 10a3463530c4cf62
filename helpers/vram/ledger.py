"""Which storages are alive on which GPU while a model runs: the ledger behind the forecast.

The idea: a tensor on PyTorch's `meta` device has a shape and a type, but no bytes. So the model's code runs
anywhere, at any size, in a moment, while a *ledger* notes which tensors are alive on which GPU. The highest
total in the ledger is the peak of a real run. Sizes are bytes.
"""

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import torch

from helpers import compat

QUESTION = compat.question_for_a_number()
CUDA_BLOCK = 512  # PyTorch's CUDA allocator hands out multiples of 512 bytes


def round_up(size: int, block: int) -> int:
    """The smallest multiple of `block` that is not below `size`."""
    blocks = (size + block - 1) // block
    return blocks * block


def tensors_in(value) -> Iterator[torch.Tensor]:
    """The tensors in lists, tuples and dicts, nested in any way."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def replace_tensors(value, change: Callable[[torch.Tensor], torch.Tensor]):
    """The same lists, tuples and dicts with `change(tensor)` in place of each tensor."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: replace_tensors(item, change) for key, item in value.items()}
    if type(value) in (list, tuple):  # not their subclasses: a named tuple is made in another way
        return type(value)(replace_tensors(item, change) for item in value)
    return value


def description(value):
    """What decides shape and type of an operation's result: `value` with its tensors described."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(description(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, description(item)) for key, item in value.items())
    return type(value), value  # the type, because 1 == 1.0 == True


class Ledger(compat.dispatch_mode()):
    """Books every storage that operations create on `gpu`, the GPU that computes now. Views create none.

    Used as a context manager. `weights`: tensors that are there already and are not booked. `block`: sizes
    are rounded up to a multiple of it. `live` and `peak`: bytes by GPU. `history`: a pair (GPU, bytes live on
    it) for each change, if it was set to a list.
    """

    def __init__(self, weights: Iterable[torch.Tensor], block: int):
        super().__init__()
        self.gpu = 0
        self.block = block
        self.live: dict[int, int] = defaultdict(int)
        self.peak: dict[int, int] = defaultdict(int)
        self.history: list[tuple[int, int]] | None = None
        # id of a storage -> the GPU it lies on; None for weights, which are everywhere at home
        self.home: dict[int, int | None] = {}
        self.weights = [weight.untyped_storage() for weight in weights]  # kept, so that no id is used again
        for storage in self.weights:
            self.home[id(storage)] = None
        self.answer = True  # to code that asks for a number of a tensor, which has none
        self.seen = {}  # an operation and the description of its inputs -> the description of its new result

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Called by PyTorch for every operation: run it, and book what it creates."""
        # Layers are alike, so most operations were seen before. Looking a result up is ten times faster than
        # computing its shape again. Only new storages are looked up; views must come from the operation.
        kwargs = kwargs or {}
        if function is QUESTION:
            return self.answer
        key = (function, description(args), description(kwargs))
        if key in self.seen:
            shape, stride, dtype = self.seen[key]
            result = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
        else:
            result = function(*args, **kwargs)
            if isinstance(result, torch.Tensor) and id(result.untyped_storage()) not in self.home:
                self.seen[key] = description(result)
        for tensor in tensors_in(result):
            self.book(tensor.untyped_storage())
        return result

    def book(self, storage: torch.UntypedStorage) -> None:
        """Note a storage, unless it is known, until Python forgets it."""
        key = id(storage)
        if key in self.home:
            return
        size = round_up(storage.nbytes(), self.block)
        self.home[key] = self.gpu
        self.live[self.gpu] += size
        self.peak[self.gpu] = max(self.peak[self.gpu], self.live[self.gpu])
        self.note(self.gpu)
        weakref.finalize(storage, self.release, key, self.gpu, size)

    def release(self, key: int, gpu: int, size: int) -> None:
        """Take a storage out of the ledger."""
        del self.home[key]
        self.live[gpu] -= size
        self.note(gpu)

    def note(self, gpu: int) -> None:
        """Keep what is live on a GPU after a change, if a history is wanted."""
        if self.history is not None:
            self.history.append((gpu, self.live[gpu]))

    def gpu_of(self, tensor: torch.Tensor) -> int | None:
        """The GPU on which a booked tensor lies; None for weights."""
        return self.home.get(id(tensor.untyped_storage()))

    def move(self, values, gpu: int):
        """From now on `gpu` computes: tensors of other GPUs are copied to it, as accelerate's hooks do."""
        self.gpu = gpu

        def bring(tensor: torch.Tensor) -> torch.Tensor:
            if self.gpu_of(tensor) in (gpu, None):
                return tensor
            return tensor.clone()

        return replace_tensors(values, bring)
