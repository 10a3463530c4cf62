"""The lines of the check on software: Python, packages, flash-attn, JupyterLab, pip's index, proxies."""

from collections.abc import Iterator

from helpers.environment.machine import Machine
from helpers.environment.verdicts import Check, Needs, judge
from helpers.environment.versions import requirements, satisfies
from helpers.environment.wheels import BLACKWELL, flash_attn_wheel, torch_command

INSTALL = "pip install -r requirements.txt"
WIDGET_MANAGER = ">=5,<6"  # @jupyter-widgets/jupyterlab-manager: what ipywidgets 8 needs in the page


def python_line(machine: Machine) -> Check:
    """transformers 5.23 needs 3.11; the course is tested up to 3.13."""
    return judge(
        "Python",
        found=machine.python,
        needed="3.11 to 3.13",
        good=satisfies(machine.python, ">=3.11,<3.14"),
        repair="take an image with Python 3.12, or: conda create -n course python=3.12",
    )


def torch_line(machine: Machine, needs: Needs) -> Check:
    """Whether torch is there, can be imported, and was built for the GPUs here."""
    version = machine.packages.get("torch", "")
    cuda = machine.torch_cuda
    needed = requirements()["torch"]
    good = satisfies(version, needed) and cuda is not None
    if good and machine.gpus and not cuda:
        needed = "a CUDA build, for the GPUs here"
        good = not needs.size
    elif good and any(gpu.capability >= BLACKWELL for gpu in machine.gpus):
        needed = "CUDA 12.8 or newer, for this GPU"
        good = satisfies(cuda, ">=12.8")
    found = "missing"
    if version:
        found = f"{version} ({_torch_build(cuda)})"
    return judge("torch", found=found, needed=needed, good=good, repair=torch_command(machine))


def _torch_build(cuda: str | None) -> str:
    if cuda is None:
        return "its import fails"
    if cuda:
        return f"CUDA {cuda}"
    return "CPU build"


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
        if name in ("pytest", "nbval") or (name == "ipykernel" and version):
            verdict = "warning"
        yield judge(
            name,
            found=version or "missing",
            needed=specifier,
            good=False,
            otherwise=verdict,
            repair=INSTALL,
        )
    if right:
        yield judge("packages", found="as in requirements.txt", needed="requirements.txt", good=True)


def flash_attn_line(machine: Machine) -> Check:
    """flash-attn is optional: OK if it is missing (with a hint), not if it is there and broken."""
    version = machine.packages.get("flash-attn", "")
    address, reason = flash_attn_wheel(machine)
    if version and not machine.flash_attn_works:
        repair = "pip uninstall flash-attn (sdpa does its work)"
        if address:
            repair += f", or: pip install --force-reinstall --no-deps {address}"
        found = f"{version}, but its import fails"
        needed = "one that fits torch, or none"
        return judge("flash-attn", found=found, needed=needed, good=False, otherwise="warning", repair=repair)
    hint = reason
    if address:
        hint = f"if you want it: pip install {address}"
    return judge(
        "flash-attn",
        found=version or "not installed: sdpa does its work",
        needed="optional",
        good=bool(version),
        otherwise="OK",
        repair=hint,
    )


def jupyterlab_line(machine: Machine) -> Check:
    """Whether the server is new enough and has the widgets, which the prompt box needs."""
    specifier = requirements()["jupyterlab"]
    needed = f"{specifier}, widgets {WIDGET_MANAGER}"
    found = "not found"
    if machine.jupyterlab:
        found = f"{machine.jupyterlab}, widgets {machine.lab_widgets or 'missing'}"
    if not machine.server_seen:
        hint = f"run show_environment() in a notebook to see the server's; in this environment: {found}"
        return Check("JupyterLab", "cannot be seen from this terminal", needed, "OK", hint)
    right = satisfies(machine.jupyterlab, specifier) and satisfies(machine.lab_widgets, WIDGET_MANAGER)
    return judge(
        "JupyterLab",
        found=found,
        needed=needed,
        good=right,
        otherwise="warning",
        repair=f"in the server's environment: {INSTALL}; restart it, reload the page",
    )


def index_line(machine: Machine) -> Check:
    """In China pip should ask a mirror."""
    needed = "any"
    if machine.autodl:
        needed = "a mirror in China"
    return judge(
        "pip index",
        found=machine.mirror or "the default one",
        needed=needed,
        good="mirror" in machine.mirror or not machine.autodl,
        otherwise="warning",
        repair="pip config set global.index-url https://pypi.tuna.tsinghua.edu.cn/simple",
    )


def proxy_line(machine: Machine) -> Check:
    """AutoDL's acceleration is a proxy, which slows down mirrors in China."""
    needed = "any"
    if machine.autodl:
        needed = "off, except for GitHub"
    return judge(
        "proxy",
        found=" ".join(machine.proxies) or "off",
        needed=needed,
        good=not (machine.proxies and machine.autodl),
        otherwise="warning",
        repair=f"unset {' '.join(machine.proxies)}",
    )
