"""What the devices of a compiled program exchange: read off its text."""

import math
import re
from typing import Any, NamedTuple

_KINDS = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
_INSTRUCTION = re.compile(rf" = (.*?) ({_KINDS})(?:-start)?\((.*)")
_ARRAY = re.compile(r"(\w+?)(\d+)\[([\d,]*)\]")  # f32[4,8]; booleans are pred[...]
_GROUPS = re.compile(r"replica_groups=(\{\{.*?\}\}|\[.*?\]<=\[.*?\])")


class Collective(NamedTuple):
    """An instruction: its kind, the bytes of each array that it puts out, and which devices take
    part in it, as XLA writes it.
    """

    kind: str
    array_bytes: tuple[int, ...]
    groups: str

    @property
    def bytes(self) -> int:
        return sum(self.array_bytes)


def collectives(program: Any) -> list[Collective]:
    """Those of a compiled program, loops counted once."""
    found = []
    for line in program.as_text().splitlines():
        match = _INSTRUCTION.search(re.sub(r"/\*.*?\*/", "", line))
        if not match:
            continue
        arrays = _ARRAY.findall(match[1].replace("pred[", "pred8["))
        sizes = [
            int(bits) // 8 * math.prod(int(n) for n in shape.split(",") if n)
            for _, bits, shape in arrays
        ]
        groups = _GROUPS.search(match[3])
        found.append(Collective(match[2], tuple(sizes), groups[1] if groups else ""))
    return found
