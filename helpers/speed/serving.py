"""Start an OpenAI-compatible server for a model folder, on this computer only, and stop it again.

    server = serve(choose_model())
    print(ask(server, "What is a token?").text)
    server.stop()

The server is `transformers serve`. What it is asked goes through `helpers.speed.client`, which checks first
what the server does not check.
"""

import importlib.util
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from helpers import CourseError
from helpers.inference.model_folder import folder_of
from helpers.inference.placement import SMALL_MODEL, find_placement
from helpers.language import listed, say
from helpers.speed.processes import LOOPBACK, Child, PortTakenError, check_port, start_on

PACKAGES = ("fastapi", "uvicorn", "openai")
START_PATIENCE = 900  # seconds; 28.6 GB from a disk that reads 50 MB/s
HEALTH_PATIENCE = 5  # seconds for one answer of the server to "are you well?"
LOOK_AGAIN = 0.2  # seconds between two looks
SIGN_OF_LIFE = 15  # seconds between two lines of a large model that is still loading

#: Room for the keys and values of 8,192 tokens, in blocks of 32. On a GPU the server takes what is free.
BATCHING_ON_CPU = ("--cb-num-blocks", "256", "--cb-block-size", "32", "--cb-max-batch-tokens", "512")


class Server:
    """A server that speaks OpenAI's protocol on 127.0.0.1. In a `with` block it is stopped at the end."""

    def __init__(self, child: Child, port: int, folder: Path, model: str):
        #: What a client needs: the address, and the name under which the server knows its one model.
        self.url = f"http://{LOOPBACK}:{port}/v1"
        self.model = model
        #: The model's folder, whose tokenizer counts the tokens of a request before it is sent.
        self.folder = folder
        self.child = child
        self._health = f"http://{LOOPBACK}:{port}/health"

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def is_well(self) -> bool:
        """Whether it runs and answers its health check."""
        # A proxy that is set in the environment does not know our 127.0.0.1.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self._health, timeout=HEALTH_PATIENCE) as answer:
                return answer.status == 200 and self.child.exit_status is None
        except (OSError, urllib.error.URLError):
            return False

    @cached_property
    def client(self):
        """An `openai.OpenAI` for this server: never through a proxy, and without second tries."""
        import openai  # imported late: it takes a second, and is only needed here

        return openai.OpenAI(
            base_url=self.url,
            api_key="none",  # the server does not ask for one, but the client does
            max_retries=0,
            http_client=openai.DefaultHttpxClient(trust_env=False),
        )

    @cached_property
    def tokenizer(self):
        """The tokenizer of the model."""
        from transformers import AutoTokenizer  # imported late: it takes seconds

        return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)

    @cached_property
    def context(self) -> int | None:
        """How many tokens of prompt and answer the model was made for; None if its config does not say."""
        from transformers import AutoConfig  # imported late: it takes seconds

        config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False).get_text_config()
        return getattr(config, "max_position_embeddings", None)

    def stop(self) -> None:
        """End the server. Nothing happens if it has ended."""
        self.child.end()


def serve(model_dir: str | Path, *, port: int | None = None, batching: bool = False) -> Server:
    """Start `transformers serve` for this model folder, wait until it answers, and return it.

    `port`: None takes a free one. `batching`: continuous batching, so that several answers are written
    together. CourseError when a package is missing, the model cannot be served on this machine, the port is
    in use, or the server ends before it answers.
    """
    folder = folder_of(model_dir).absolute()
    check_packages()
    placement = find_placement(folder)
    if not placement.bare_call_agrees:
        raise CourseError(
            say(
                "{placement} transformers serve cannot be told to do that: load the model with "
                "helpers.inference, or take a machine whose GPUs hold it.",
                placement=placement.sentence,
            )
        )
    if port is not None:
        check_port(port)
    device = "auto"
    if placement.options["device_map"] == "cpu":
        device = "cpu"
    print(say("Starting a server for {name} ...", name=folder.name))
    slow = placement.weights >= SMALL_MODEL
    variables = {}
    if not slow:
        variables["OMP_NUM_THREADS"] = "1"  # sharing out work this small costs more than the work itself

    def start(chosen: int) -> Server:
        command = serve_command(folder, chosen, device, batching)
        return start_server(command, chosen, folder, str(folder), slow=slow, **variables)

    server = start_on(port, start)
    print(say("It answers on this computer, and on no other."))
    return server


def serve_command(folder: Path, port: int, device: str, batching: bool) -> list[str]:
    """The command line of `transformers serve`; run with this Python, whatever else is installed."""
    start = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command = [*start, "--host", LOOPBACK, "--port", str(port), "--device", device]
    if batching:
        command.append("--continuous-batching")
        if device == "cpu":
            command += BATCHING_ON_CPU
    return command


def check_packages() -> None:
    """CourseError if a package is missing that a server or its client needs."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise CourseError(
            say(
                "Serving needs packages that are not installed here ({missing}): run "
                "pip install -r requirements.txt in the folder of the course.",
                missing=listed(missing),
            )
        )


def start_server(
    command: Sequence[str],
    port: int,
    folder: Path,
    model: str,
    *,
    slow: bool = False,
    patience: float = START_PATIENCE,
    **variables: str,
) -> Server:
    """Start a command that serves on this port, and wait until it answers; end it if it does not.

    `slow`: say from time to time that it is still loading. `patience`: seconds until it has to answer.
    `variables`: for its environment. CourseError if it ends before, or does not answer in time.
    """
    server = Server(Child(command, **variables), port, folder, model)
    try:
        wait_until_well(server, slow, patience)
    except BaseException:  # an interrupt too: nothing stays behind
        server.stop()
        raise
    return server


def wait_until_well(server: Server, slow: bool, patience: float) -> None:
    """Return when the server answers; CourseError when it has ended, or takes too long."""
    start = time.monotonic()
    said = start
    while not server.is_well:
        now = time.monotonic()
        if server.child.exit_status is not None:
            raise ended_early(server)
        if now - start > patience:
            raise CourseError(
                say(
                    "The server has not answered within {seconds} s and was stopped; its last line: {line}",
                    seconds=patience,
                    line=server.child.last_words(),
                )
            )
        if slow and now - said > SIGN_OF_LIFE:
            said = now
            print(say("Still loading, after {seconds:.0f} s ...", seconds=now - start))
        time.sleep(LOOK_AGAIN)


def ended_early(server: Server) -> CourseError:
    """The sentence for a server that has ended before it answered."""
    if "address already in use" in server.child.log():  # another program was faster
        return PortTakenError(
            say("Another program took the port of the server just now: start the server again.")
        )
    return CourseError(
        say(
            "The server ended before it answered (exit status {status}); its last line: {line}",
            status=server.child.exit_status,
            line=server.child.last_words(),
        )
    )
