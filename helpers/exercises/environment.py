"""Checks of notebook 01: a count of parameters from nothing, and machines that a learner describes.

What they say of a right answer does not repeat it: JupyterLab opens the outputs of solutions when all cells
are run.
"""

from itertools import combinations

from helpers import GB, GIB
from helpers.environment import REAL_MODEL, Gpu, Machine, check, lowest_versions
from helpers.environment import hardware_checks as hardware
from helpers.environment.verdicts import Check, Needs
from helpers.exercises.counting import MIXTRAL_MISTAKES, Mistake, count_mixtral
from helpers.exercises.verdict import WrongAnswerError, verdict
from helpers.language import listed, say, to_say
from helpers.terminal import in_a_row

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
    ACTIVATED: to_say("that is the number for 4 experts."),
    REAL_MODEL.total: to_say("that is the total. The experts that are not chosen rest."),
    2 * ACTIVATED: to_say(
        "attention, the embedding and the shared expert do not double, only the chosen experts do."
    ),
    ACTIVATED + (8 - CHOSEN) * EXPERT: to_say(
        "that adds four experts in one layer. How many layers are there?"
    ),
    ACTIVATED + LAYERS * 8 * EXPERT: (
        to_say(
            "that adds as much as eight experts a layer. Four more are chosen, and the shared one stays "
            "as it is."
        )
    ),
    ACTIVATED + LAYERS * (8 - CHOSEN) * EXPERT * 2 // 3: to_say("an expert has three matrices."),
    LAYERS * 8 * EXPERT: to_say("those are the chosen experts alone. What else does every token use?"),
}


def whole_number(answer) -> int:
    """The answer as a whole number of parameters; WrongAnswerError if it is none."""
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise WrongAnswerError(say("a number is asked for, not {kind}.", kind=type(answer).__name__))
    if abs(answer) < 1000:
        raise WrongAnswerError(
            say("{answer} looks like billions: give all digits, they are checked.", answer=answer)
        )
    if answer != int(answer):
        raise WrongAnswerError(
            say("{answer} has a fraction, and parameters are whole: multiply, do not round.", answer=answer)
        )
    return int(answer)


# Exercise 1

TOO_FAR = {
    ("total", "large"): to_say("the total number, {answer:,}, is too large."),
    ("total", "small"): to_say("the total number, {answer:,}, is too small."),
    ("activated", "large"): to_say("the activated number, {answer:,}, is too large."),
    ("activated", "small"): to_say("the activated number, {answer:,}, is too small."),
}


def is_missing(answer) -> bool:
    """Whether the learner has not yet written this part of the answer."""
    return answer is None or answer is Ellipsis


@verdict
def check_mixtral(total, activated=None):
    """The total and the activated parameters of Mixtral 8x7B."""
    right = count_mixtral()
    if is_missing(total):
        raise WrongAnswerError(say("start with the total, then the activated parameters."))
    total = whole_number(total)
    if total == right.activated:
        raise WrongAnswerError(say("what you give as total is the activated number."))
    compare(total, "total")
    if is_missing(activated):
        raise WrongAnswerError(
            say("the total, {total:,}, is right. Now the activated parameters.", total=total)
        )
    compare(whole_number(activated), "activated")
    return say(
        "rounded, these are the two numbers that its makers announced. And the name, 8x7B? Ask of "
        "each part whether it is there eight times."
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
    too_far = say(TOO_FAR[number, direction], answer=answer)
    raise WrongAnswerError(in_a_row(too_far, *hints_for(answer, number)))


def hints_for(answer: int, number: str) -> list[str]:
    """Where to look after an answer that is not Mixtral's `number`, in one or two sentences."""
    counted = count_mixtral()
    right = getattr(counted, number)
    if number == "total" and abs(answer - 8 * 7 * BILLION) < 2 * BILLION:
        return [say("The name is no formula: which parts are there only once a layer?")]
    if number == "activated" and answer == counted.total:
        return [say("That is the total. How many of the 8 experts does a token use?")]
    if number == "activated" and answer == counted.total * 2 // 8:
        return [say("2 of 8 holds for the experts only; a token uses all of the rest.")]
    mistakes = find_mistakes(answer, number)
    if mistakes:
        return [say(mistake.hint) for mistake in mistakes]
    if abs(answer - right) < 0.001 * right:
        return [say("It is close: look at the small parts, the routers and the norms.")]
    return [
        say(
            "Count one layer, part by part: attention (four matrices), experts (three matrices each), "
            "router, norms; then what is there once."
        )
    ]


def find_mistakes(answer: int, number: str) -> list[Mistake]:
    """The one mistake, or else the two, that lead to this answer; [] if none do."""
    for size in (1, 2):
        for mistakes in combinations(MIXTRAL_MISTAKES, size):
            changes = {}
            for mistake in mistakes:
                changes |= mistake.changes
            if getattr(count_mixtral(**changes), number) == answer:
                return list(mistakes)
    return []


# Exercise 2


@verdict
def check_eight_experts(activated):
    """The activated parameters of Qwen1.5-MoE-A2.7B, if its routers took 8 of the 60 experts."""
    activated = whole_number(activated)
    right = ACTIVATED + LAYERS * (8 - CHOSEN) * EXPERT
    if activated == right:
        return say(
            "twice as many experts, but not twice {activated:.2f} billion. And the memory? Think of what "
            "has to be there before a router has chosen.",
            activated=ACTIVATED / BILLION,
        )
    if activated in EIGHT_EXPERTS_MISTAKES:
        raise WrongAnswerError(say(EIGHT_EXPERTS_MISTAKES[activated]))
    raise WrongAnswerError(
        say(
            "{activated:,} is wrong: take the number for 4 experts and add what 4 more take, in each layer.",
            activated=activated,
        )
    )


# Exercises 3 to 5: machines

REAL = Needs.of("real")


def machine_of(answer, otherwise: str) -> Machine:
    """The answer, if it is a machine; else WrongAnswerError with the sentence `otherwise`."""
    if not isinstance(answer, Machine):
        raise WrongAnswerError(otherwise)
    return answer


def further_failures(machine: Machine, expected: Check | None = None) -> str:
    """The names of the lines, besides the expected one, that fail for the real model; "" if none do."""
    others = [say(line.name) for line in check(machine) if line.verdict == "fail" and line != expected]
    return listed(sorted(others))


@verdict
def check_driver(broken, repaired=None):
    """A machine with driver 570.124.06 and a torch for CUDA 13.0, and the same machine after the repair."""
    broken = machine_of(broken, say("the first answer is to be a machine: replace(rented, ...) makes one."))
    look_at_broken(broken)
    if is_missing(repaired):
        raise WrongAnswerError(
            say("the first machine is right. Show it, read what fails, and describe the repaired one.")
        )
    repaired = machine_of(
        repaired, say("the second answer is to be a machine: replace(rented, ...) makes one.")
    )
    look_at_repaired(repaired, broken)
    return say(
        "nothing fails on the second machine any more, and whoever rents one can do this repair: the "
        "check has said the command, below the line that failed on the first."
    )


def look_at_broken(broken: Machine) -> None:
    """WrongAnswerError if this is not the machine with the old driver, and nothing else wrong."""
    if broken.driver != "570.124.06":
        if not broken.driver:
            raise WrongAnswerError(say("the driver of your first machine is missing."))
        raise WrongAnswerError(say("the driver of your first machine is {driver}.", driver=broken.driver))
    if broken.torch_cuda != "13.0":
        raise WrongAnswerError(
            say("the torch of your first machine is built with CUDA {cuda}.", cuda=broken.torch_cuda)
        )
    others = further_failures(broken, hardware.driver_line(broken, REAL))
    if others:
        raise WrongAnswerError(
            say(
                "of the first machine something else fails too: {others}. Change one thing only.",
                others=others,
            )
        )


def look_at_repaired(repaired: Machine, broken: Machine) -> None:
    """WrongAnswerError if this machine still fails, or was repaired in a way that nobody has."""
    if repaired.driver != broken.driver:
        raise WrongAnswerError(
            say("the driver belongs to the host, and whoever rents cannot change it. What can you change?")
        )
    driver = hardware.driver_line(repaired, REAL)
    if driver.verdict == "fail":
        raise WrongAnswerError(
            say(
                "the second machine fails as well: CUDA {cuda} needs a newer driver.",
                cuda=repaired.torch_cuda,
            )
        )
    others = further_failures(repaired)
    if others:
        raise WrongAnswerError(
            say(
                "of the second machine something else fails too: {others}. Change one thing only.",
                others=others,
            )
        )


@verdict
def check_careless(machine):
    """A machine whose model cache is on the system disk, where 22 GB are free."""
    machine = machine_of(machine, say("the answer is to be a machine: replace(rented, ...) makes one."))
    if machine.disk == "data disk":
        raise WrongAnswerError(say("the model still goes to the data disk. Which field says where it goes?"))
    if machine.disk != "system disk":
        raise WrongAnswerError(
            say(
                "the disk is called {disk!r}; the check knows 'data disk' and 'system disk'.",
                disk=machine.disk,
            )
        )
    if machine.free_disk == 22 * GIB:
        raise WrongAnswerError(say("22 GiB are 7 % more than 22 GB. Disks are counted in GB."))
    if machine.free_disk < 1000:
        raise WrongAnswerError(
            say("{bytes} bytes are free on it: the field counts bytes.", bytes=machine.free_disk)
        )
    if machine.free_disk != 22 * GB:
        raise WrongAnswerError(say("{free:.1f} GB are free on it, not 22.", free=machine.free_disk / GB))
    others = further_failures(machine, hardware.disk_line(machine, REAL))
    if others:
        raise WrongAnswerError(
            say("of this machine something else fails too: {others}. Change one thing only.", others=others)
        )
    return say(
        'that is the machine. If you have not yet: show it twice, for "real" and for "embedded", and '
        "compare the line of its disk."
    )


def gpu_line(gib: int) -> Check:
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
    return hardware.gpu_line(machine, REAL, planner=None)


@verdict
def check_smallest_card(gib):
    """The smallest whole number of GiB with which a single card holds all weights."""
    if isinstance(gib, bool) or not isinstance(gib, int | float):
        raise WrongAnswerError(say("a number of GiB is asked for, not {kind}.", kind=type(gib).__name__))
    if gib != int(gib):
        raise WrongAnswerError(say("a whole number of GiB is asked for."))
    gib = int(gib)
    if not 1 <= gib <= 1024:
        raise WrongAnswerError(say("there is no card of {gib} GiB: the number is asked for in GiB.", gib=gib))
    weights = 2 * REAL_MODEL.total / GIB
    if gib < weights:
        raise WrongAnswerError(
            say("{gib} GiB is less than the weights alone, {weights:.2f} GiB.", gib=gib, weights=weights)
        )
    if gpu_line(gib).verdict != "OK":
        raise WrongAnswerError(
            say(
                "{gib} GiB hold the weights and not enough besides. The check says: {repair}",
                gib=gib,
                repair=gpu_line(gib).repair,
            )
        )
    if gpu_line(gib - 1).verdict == "OK":
        raise WrongAnswerError(say("{gib} GiB is enough, and so is less.", gib=gib))
    return say(
        "with less, the weights do not find room beside what has to stay free. No card of just this "
        "size is sold: one takes the next larger one."
    )
