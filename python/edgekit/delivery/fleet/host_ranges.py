"""Many hosts in one word, as Ansible writes them: `pi[01:20].lan`, `rack[a:c]-[1:9:2]`."""

import re
import string

_RANGE = re.compile(r"\[([^\[\]]*)\]")
_BOUNDS = re.compile(r"([0-9]*|[A-Za-z]):([0-9]+|[A-Za-z])(?::([0-9]+))?")
_PORT = re.compile(r"((?:[^:\[\]]|\[[^\]]*\])+):([0-9]+)")
_BARE_IPV6 = re.compile(r"\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\]")
# A range of letters goes through the small ones before the capitals.
_LETTERS = string.ascii_letters
_MOST_HOSTS = 100_000


def expand_ranges(pattern: str) -> list[str]:
    """Returns the names that a pattern stands for, the last range changing fastest.

    Both ends belong to a range. A first number that begins with 0 says how wide all of them are; a third number is the
    step.

    >>> expand_ranges("pi[08:10].lan")
    ['pi08.lan', 'pi09.lan', 'pi10.lan']
    >>> expand_ranges("[a:b][1:5:2]")
    ['a1', 'a3', 'a5', 'b1', 'b3', 'b5']

    Raises:
        ValueError: A range cannot be read, is empty, or stands for more than 100,000 hosts.
    """
    match = _RANGE.search(pattern)
    if match is None:
        if "[" in pattern or "]" in pattern:
            raise ValueError(f"'{pattern}' has a bracket without its other half")
        return [pattern]
    head, rest = pattern[: match.start()], expand_ranges(pattern[match.end() :])
    items = _expand_range(match.group(1))
    if len(items) * len(rest) > _MOST_HOSTS:
        raise ValueError(f"'{pattern}' stands for more than {_MOST_HOSTS} hosts")
    return [head + item + tail for item in items for tail in rest]


def split_port(pattern: str) -> tuple[str, int | None]:
    """Returns the pattern of a host, and the port behind it if there is one.

    >>> split_port("pi[1:2].lan:2222"), split_port("fe80::1"), split_port("[fe80::1]:22")
    (('pi[1:2].lan', 2222), ('fe80::1', None), ('fe80::1', 22))
    """
    match = _PORT.fullmatch(pattern)
    host, port = (match.group(1), int(match.group(2))) if match else (pattern, None)
    bare = _BARE_IPV6.fullmatch(host)
    return (bare.group(1) if bare else host), port


def _expand_range(text: str) -> list[str]:
    match = _BOUNDS.fullmatch(text)
    if match is None:
        raise ValueError(f"'[{text}]' is no range, which looks like [01:20], [a:f] or [1:9:2]")
    first, last, step = match.group(1) or "0", match.group(2), int(match.group(3) or "1")
    if step == 0 or first.isdigit() != last.isdigit():
        raise ValueError(f"'[{text}]' is no range, which looks like [01:20], [a:f] or [1:9:2]")
    if not first.isdigit():
        items = list(_LETTERS[_LETTERS.index(first) : _LETTERS.index(last) + 1 : step])
    else:
        width = len(first) if len(first) > 1 and first.startswith("0") else 0
        if width and width != len(last):
            raise ValueError(f"'[{text}]': both ends must be equally long, since one begins with 0")
        numbers = range(int(first), int(last) + 1, step)
        if len(numbers) > _MOST_HOSTS:
            raise ValueError(f"'[{text}]' stands for more than {_MOST_HOSTS} hosts")
        items = [str(number).zfill(width) for number in numbers]
    if not items:
        raise ValueError(f"'[{text}]' is empty: it ends before it begins")
    return items
