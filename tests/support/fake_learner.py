"""A child process that stands for `clients.enrol`: it answers as the video's first line tells it to."""

import json
import sys
from pathlib import Path


def main() -> int:
    order = json.loads(sys.stdin.readline())
    how = Path(order["video"]).read_bytes().split(b"\n", 1)[0].decode()
    say({"event": "progress", "step": "adapt", "text": "Learning the mouth", "fraction": 0.5})
    match how:
        case "wait":
            sys.stdin.read()  # until the server closes it, or kills us
            return 3
        case "fail":
            say({"event": "error", "kind": "input", "message": "it shows no face"})
            return 2
        case "crash":
            sys.stderr.write("Segmentation fault (not really)\n")
            return 139
    Path(order["out"]).write_bytes(b"pack of " + order["name"].encode())
    say(
        {
            "event": "result",
            "report": {"consent": order["consent"], "steps": order["steps"], "video": order["video"]},
        }
    )
    return 0


def say(event: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
