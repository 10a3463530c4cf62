"""The lines of the check on software: Python, packages, flash-attn, JupyterLab, pip's index, proxies."""

from collections.abc import Iterator

from helpers.environment.machine import Machine
from helpers.environment.probes import OTHER_INDEX
from helpers.environment.verdicts import Check, Needs, judge
from helpers.environment.versions import requirements, satisfies
from helpers.environment.wheels import BLACKWELL, flash_attn_wheel, torch_command
from helpers.language import say, to_say

INSTALL = "pip install -r requirements.txt"
#: Needed for the tests, and for the server of notebook 07.
NOT_FOR_THE_CHAT = ("pytest", "nbval", "openai", "fastapi", "uvicorn")
WIDGET_MANAGER = ">=5,<6"  # @jupyter-widgets/jupyterlab-manager: what ipywidgets 8 needs in the page


def python_line(machine: Machine) -> Check:
    """transformers 5.23 needs 3.11; the course is tested up to 3.13."""
    return judge(
        "Python",
        found=machine.python,
        needed=say("3.11 to 3.13"),
        good=satisfies(machine.python, ">=3.11,<3.14"),
        repair=say("take an image with Python 3.12, or: conda create -n course python=3.12"),
    )


def torch_line(machine: Machine, needs: Needs) -> Check:
    """Whether torch is there, can be imported, and was built for the GPUs here."""
    version = machine.packages.get("torch", "")
    cuda = machine.torch_cuda
    needed = requirements()["torch"]
    good = satisfies(version, needed) and cuda is not None
    if good and machine.gpus and not cuda:
        needed = say("a CUDA build, for the GPUs here")
        good = not needs.size
    elif good and any(gpu.capability >= BLACKWELL for gpu in machine.gpus):
        needed = say("CUDA 12.8 or newer, for this GPU")
        good = satisfies(cuda, ">=12.8")
    found = _torch_found(version, cuda)
    return judge("torch", found=found, needed=needed, good=good, repair=torch_command(machine))


def _torch_found(version: str, cuda: str | None) -> str:
    """Which torch is there. `cuda`: see `Machine.torch_cuda`."""
    if not version:
        return say("missing")
    if cuda is None:
        return say("{version} (its import fails)", version=version)
    if cuda:
        return f"{version} (CUDA {cuda})"
    return say("{version} (CPU build)", version=version)


def package_lines(machine: Machine) -> Iterator[Check]:
    """One line for each package that is missing or has another version, or one that all is well."""
    apart = ("torch", "jupyterlab")  # they have lines of their own
    wanted = {name: specifier for name, specifier in requirements().items() if name not in apart}
    right = True
    for name, specifier in wanted.items():
        version = machine.packages.get(name, "")
        if satisfies(version, specifier):
            continue
        right = False
        verdict = "fail"
        if name in NOT_FOR_THE_CHAT or (name == "ipykernel" and version):
            verdict = "warning"
        yield judge(
            name,
            found=version or say("missing"),
            needed=specifier,
            good=False,
            otherwise=verdict,
            repair=INSTALL,
        )
    if right:
        found = say("as in requirements.txt")
        yield judge(to_say("packages"), found=found, needed="requirements.txt", good=True)


def flash_attn_line(machine: Machine) -> Check:
    """flash-attn is optional: OK if it is missing (with a hint), not if it is there and broken."""
    version = machine.packages.get("flash-attn", "")
    address, reason = flash_attn_wheel(machine)
    if version and not machine.flash_attn_works:
        repair = say("pip uninstall flash-attn (sdpa does its work)")
        if address:
            repair = say(
                "pip uninstall flash-attn (sdpa does its work), or: "
                "pip install --force-reinstall --no-deps {address}",
                address=address,
            )
        found = say("{version}, but its import fails", version=version)
        needed = say("one that fits torch, or none")
        return judge("flash-attn", found=found, needed=needed, good=False, otherwise="warning", repair=repair)
    hint = reason
    if address:
        hint = say("if you want it: pip install {address}", address=address)
    return judge(
        "flash-attn",
        found=version or say("not installed: sdpa does its work"),
        needed=say("optional"),
        good=bool(version),
        otherwise="OK",
        repair=hint,
    )


def jupyterlab_line(machine: Machine) -> Check:
    """Whether the server is new enough and has the widgets, which the prompt box needs."""
    specifier = requirements()["jupyterlab"]
    needed = _lab_and_widgets(specifier, WIDGET_MANAGER)
    found = _lab_and_widgets(machine.jupyterlab, machine.lab_widgets)
    if not machine.server_seen:
        hint = say(
            "run show_environment() in a notebook to see the server's; in this environment: {found}",
            found=found,
        )
        return Check("JupyterLab", say("cannot be seen from this terminal"), needed, "OK", hint)
    right = satisfies(machine.jupyterlab, specifier) and satisfies(machine.lab_widgets, WIDGET_MANAGER)
    return judge(
        "JupyterLab",
        found=found,
        needed=needed,
        good=right,
        otherwise="warning",
        repair=say(
            "in the server's environment: {command}; restart it, reload the page",
            command=INSTALL,
        ),
    )


def _lab_and_widgets(lab: str, widgets: str) -> str:
    """Versions, or conditions for them, of JupyterLab and its widgets; "" for what is missing."""
    if not lab:
        return say("not found")
    if not widgets:
        return say("{lab}, widgets missing", lab=lab)
    return say("{lab}, widgets {widgets}", lab=lab, widgets=widgets)


def index_line(machine: Machine) -> Check:
    """In China pip should ask a mirror."""
    needed = say("any")
    if machine.autodl:
        needed = say("a mirror in China")
    has_mirror = machine.mirror not in ("", OTHER_INDEX)
    found = say("the default one")
    if has_mirror:
        found = say("{name} mirror", name=machine.mirror.removesuffix(" mirror"))
    elif machine.mirror:
        found = say(OTHER_INDEX)
    return judge(
        to_say("pip index"),
        found=found,
        needed=needed,
        good=has_mirror or not machine.autodl,
        otherwise="warning",
        repair="pip config set global.index-url https://pypi.tuna.tsinghua.edu.cn/simple",
    )


def proxy_line(machine: Machine) -> Check:
    """AutoDL's acceleration is a proxy, which slows down mirrors in China."""
    needed = say("any")
    if machine.autodl:
        needed = say("off, except for GitHub")
    return judge(
        to_say("proxy"),
        found=" ".join(machine.proxies) or say("off"),
        needed=needed,
        good=not (machine.proxies and machine.autodl),
        otherwise="warning",
        repair=f"unset {' '.join(machine.proxies)}",
    )
