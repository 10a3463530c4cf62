"""Checks of notebook 01: a count of parameters from nothing, and machines that a learner describes.

What they say of a right answer does not repeat it: JupyterLab opens the outputs of solutions when all cells
are run.
"""

from itertools import combinations

from helpers import GB, GIB
from helpers.environment import REAL_MODEL, Gpu, Machine, check, lowest_versions
from helpers.exercises.counting import MIXTRAL_MISTAKES, count_mixtral
from helpers.exercises.verdict import WrongAnswerError, verdict

BILLION = 10**9

# Qwen1.5-MoE-A2.7B: config.json
HIDDEN = 2048
LAYERS = 24
EXPERTS = 60
CHOSEN = 4
EXPERT = 3 * HIDDEN * 1408
ACTIVATED = REAL_MODEL.total - LAYERS * (EXPERTS - CHOSEN) * EXPERT

# Exercise 2: an answer -> what led to it.
EIGHT_EXPERTS_MISTAKES = {
    ACTIVATED: "that is the number for 4 experts.",
    REAL_MODEL.total: "that is the total. The experts that are not chosen rest.",
    2
    * ACTIVATED: "attention, the embedding and the shared expert do not double, only the chosen experts do.",
    ACTIVATED + (8 - CHOSEN) * EXPERT: "that adds four experts in one layer. How many layers are there?",
    ACTIVATED + LAYERS * 8 * EXPERT: (
        "that adds as much as eight experts a layer. Four more are chosen, and the shared one stays as it is."
    ),
    ACTIVATED + LAYERS * (8 - CHOSEN) * EXPERT * 2 // 3: "an expert has three matrices.",
    LAYERS * 8 * EXPERT: "those are the chosen experts alone. What else does every token use?",
}


def whole_number(answer) -> int:
    """The answer as a whole number of parameters; WrongAnswerError if it is none."""
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise WrongAnswerError(f"a number is asked for, not {type(answer).__name__}.")
    if abs(answer) < 1000:
        raise WrongAnswerError(f"{answer} looks like billions: give all digits, they are checked.")
    if answer != int(answer):
        raise WrongAnswerError(f"{answer} has a fraction, and parameters are whole: multiply, do not round.")
    return int(answer)


# Exercise 1


def is_missing(answer) -> bool:
    """Whether the learner has not yet written this part of the answer."""
    return answer is None or answer is Ellipsis


@verdict
def check_mixtral(total, activated=None):
    """The total and the activated parameters of Mixtral 8x7B."""
    right = count_mixtral()
    if is_missing(total):
        raise WrongAnswerError("start with the total, then the activated parameters.")
    total = whole_number(total)
    if total == right.activated:
        raise WrongAnswerError("what you give as total is the activated number.")
    compare(total, "total")
    if is_missing(activated):
        raise WrongAnswerError(f"the total, {total:,}, is right. Now the activated parameters.")
    compare(whole_number(activated), "activated")
    return (
        "its makers announced 46.7 billion in all and 12.9 billion a token. The name says 8x7B, but only the "
        "experts are there eight times; attention and embedding are not."
    )


def compare(answer: int, number: str) -> None:
    """WrongAnswerError, with what probably led to it, if an answer is not Mixtral's `number`.

    `number`: "total" or "activated".
    """
    right = getattr(count_mixtral(), number)
    if answer == right:
        return
    direction = "large"
    if answer < right:
        direction = "small"
    intro = f"the {number} number, {answer:,}, is too {direction}."
    if number == "total" and abs(answer - 8 * 7 * BILLION) < 2 * BILLION:
        raise WrongAnswerError(f"{intro} The name is no formula: which parts are there only once a layer?")
    if number == "activated" and answer == count_mixtral().total:
        raise WrongAnswerError(f"{intro} That is the total. How many of the 8 experts does a token use?")
    if number == "activated" and answer == count_mixtral().total * 2 // 8:
        raise WrongAnswerError(f"{intro} 2 of 8 holds for the experts only; a token uses all of the rest.")
    mistakes = find_mistakes(answer, number)
    if mistakes:
        raise WrongAnswerError(f"{intro} {' '.join(mistakes)}")
    if abs(answer - right) < 0.001 * right:
        raise WrongAnswerError(f"{intro} It is close: look at the small parts, the routers and the norms.")
    raise WrongAnswerError(
        f"{intro} Count one layer, part by part: attention (four matrices), experts (three matrices each), "
        "router, norms; then what is there once."
    )


def find_mistakes(answer: int, number: str) -> list[str]:
    """The hints of the one mistake, or else of the two, that lead to this answer; [] if none do."""
    for size in (1, 2):
        for mistakes in combinations(MIXTRAL_MISTAKES, size):
            changes = {}
            for mistake in mistakes:
                changes |= mistake.changes
            if getattr(count_mixtral(**changes), number) == answer:
                return [mistake.hint for mistake in mistakes]
    return []


# Exercise 2


@verdict
def check_eight_experts(activated):
    """The activated parameters of Qwen1.5-MoE-A2.7B, if its routers took 8 of the 60 experts."""
    activated = whole_number(activated)
    right = ACTIVATED + LAYERS * (8 - CHOSEN) * EXPERT
    if activated == right:
        return (
            f"twice as many experts, but not twice {ACTIVATED / BILLION:.2f} billion. The weights still take "
            f"{2 * REAL_MODEL.total / GIB:.2f} GiB: the memory does not depend on how many are chosen."
        )
    if activated in EIGHT_EXPERTS_MISTAKES:
        raise WrongAnswerError(EIGHT_EXPERTS_MISTAKES[activated])
    raise WrongAnswerError(
        f"{activated:,} is wrong: take the number for 4 experts and add what 4 more take, in each layer."
    )


# Exercises 3 to 5: machines


def machine_of(answer, what: str) -> Machine:
    """The answer, if it is a machine; else WrongAnswerError."""
    if not isinstance(answer, Machine):
        raise WrongAnswerError(f"{what} is to be a machine: replace(rented, ...) makes one.")
    return answer


def failing(machine: Machine) -> dict[str, str]:
    """The lines that fail for the real model, each with its repair."""
    return {line.name: line.repair for line in check(machine) if line.verdict == "fail"}


def no_further_failures(machine: Machine, what: str, expected: set[str]) -> None:
    """WrongAnswerError if other lines fail than the expected ones."""
    others = sorted(set(failing(machine)) - expected)
    if others:
        raise WrongAnswerError(
            f"of {what} something else fails too: {', '.join(others)}. Change one thing only."
        )


@verdict
def check_driver(broken, repaired=None):
    """A machine with driver 570.124.06 and a torch for CUDA 13.0, and the same machine after the repair."""
    broken = machine_of(broken, "the first answer")
    if broken.driver != "570.124.06":
        raise WrongAnswerError(f"the driver of your first machine is {broken.driver or 'missing'}.")
    if broken.torch_cuda != "13.0":
        raise WrongAnswerError(f"the torch of your first machine is built with CUDA {broken.torch_cuda}.")
    no_further_failures(broken, "the first machine", {"driver"})
    if is_missing(repaired):
        raise WrongAnswerError(
            "the first machine is right. Show it, read what fails, and describe the repaired one."
        )
    repaired = machine_of(repaired, "the second answer")
    if repaired.driver != broken.driver:
        raise WrongAnswerError(
            "the driver belongs to the host, and whoever rents cannot change it. What can you change?"
        )
    if "driver" in failing(repaired):
        raise WrongAnswerError(
            f"the second machine fails as well: CUDA {repaired.torch_cuda} needs a newer driver."
        )
    no_further_failures(repaired, "the second machine", set())
    return f"the driver stays, the torch is replaced. The command: {failing(broken)['driver']}"


@verdict
def check_careless(machine):
    """A machine whose model cache is on the system disk, where 22 GB are free."""
    machine = machine_of(machine, "the answer")
    if machine.disk == "data disk":
        raise WrongAnswerError("the model still goes to the data disk. Which field says where it goes?")
    if machine.disk != "system disk":
        raise WrongAnswerError(
            f"the disk is called {machine.disk!r}; the check knows 'data disk' and 'system disk'."
        )
    if machine.free_disk == 22 * GIB:
        raise WrongAnswerError("22 GiB are 7 % more than 22 GB. Disks are counted in GB.")
    if machine.free_disk < 1000:
        raise WrongAnswerError(f"{machine.free_disk} bytes are free on it: the field counts bytes.")
    if machine.free_disk != 22 * GB:
        raise WrongAnswerError(f"{machine.free_disk / GB:.1f} GB are free on it, not 22.")
    no_further_failures(machine, "this machine", {"model disk"})
    return (
        f"the real model does not go there ({failing(machine)['model disk']}). "
        "With the embedded model nothing fails: it is part of the course."
    )


def gpu_line(gib: int):
    """What the check says of a machine with a single card of this size."""
    card = Gpu("imagined card", gib * GIB, 8.6)
    machine = Machine(
        packages=lowest_versions(),
        torch_cuda="12.8",
        gpus=(card,),
        driver="580.82.07",
        ram=64 * GIB,
        free_disk=49 * GB,
    )
    return next(line for line in check(machine) if line.name == "GPU")


@verdict
def check_smallest_card(gib):
    """The smallest whole number of GiB with which a single card holds all weights."""
    if isinstance(gib, bool) or not isinstance(gib, int | float):
        raise WrongAnswerError(f"a number of GiB is asked for, not {type(gib).__name__}.")
    if gib != int(gib):
        raise WrongAnswerError("a whole number of GiB is asked for.")
    gib = int(gib)
    if not 1 <= gib <= 1024:
        raise WrongAnswerError(f"there is no card of {gib} GiB: the number is asked for in GiB.")
    weights = 2 * REAL_MODEL.total / GIB
    if gib < weights:
        raise WrongAnswerError(f"{gib} GiB is less than the weights alone, {weights:.2f} GiB.")
    if gpu_line(gib).verdict != "OK":
        raise WrongAnswerError(
            f"{gib} GiB hold the weights and not enough besides. The check says: {gpu_line(gib).repair}"
        )
    if gpu_line(gib - 1).verdict == "OK":
        raise WrongAnswerError(f"{gib} GiB is enough, and so is less.")
    return (
        "CUDA takes half a GiB, a tenth of the rest stays free, and what is left is just enough for "
        f"{weights:.2f} GiB of weights. Such a card is not sold: the next size is 32 GB."
    )
