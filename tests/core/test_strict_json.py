import json
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.core import strict_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), children, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(VALUES)
def test_what_json_writes_is_read_back(value: Any) -> None:
    assert strict_json.parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'[{"a":1,"\\u0061":2}]',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"-1e999",
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-32"),
        b'"\xff"',
        b'"\\ud800"',
        b'{"\\udc00":1}',
        b"{} {}",
        b"",
        b"{'a':1}",
        b'{"a":1,}',
        b"1" * 5000,
    ],
)
def test_what_two_readers_could_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is the promise
        strict_json.parse(raw)


def test_nesting_is_taken_up_to_the_limit() -> None:
    deep = b"[" * strict_json.MAX_DEPTH + b"]" * strict_json.MAX_DEPTH
    assert strict_json.parse(deep)


@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_beyond_the_limit_is_refused_before_it_is_parsed(pair: tuple[bytes, bytes]) -> None:
    opening, closing = pair
    with pytest.raises(ValueError, match="deep"):
        strict_json.parse(opening * 5000 + b"1" + closing * 5000)


def test_more_arrays_and_objects_than_the_limit_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="too many"):
        strict_json.parse(b"[" + b"[]," * strict_json.MAX_BRACKETS + b"[]]")


def test_brackets_side_by_side_or_in_strings_are_not_nesting() -> None:
    many = json.dumps([{"a": '[[[[{{{{\\"[[['}] * 100).encode()
    assert len(strict_json.parse(many)) == 100


def test_an_unfinished_string_of_many_quotes_costs_no_time() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any ValueError is the promise
        strict_json.parse(b"[" * 40 + b'"' + b'\\"' * 60_000)


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert strict_json.parse(b'"\\ud83d\\ude00"') == "\U0001f600"


def test_an_object_is_demanded_where_one_is_needed() -> None:
    with pytest.raises(ValueError, match="object"):
        strict_json.parse_object(b"[]")


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), st.integers(), min_size=1, max_size=3), st.data()
)
def test_any_member_name_written_twice_is_refused(members: dict[str, Any], data: st.DataObject) -> None:
    again = json.dumps(data.draw(st.sampled_from(sorted(members))))
    with pytest.raises(ValueError, match="repeated"):
        strict_json.parse((json.dumps(members)[:-1] + f", {again}: 0}}").encode())


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(["[", '{"a":']), min_size=28, max_size=37), st.sampled_from(["1", '"[{"', "null"]))
def test_nesting_of_any_kind_is_judged_by_its_depth(opening: list[str], inner: str) -> None:
    closing = ["]" if bracket == "[" else "}" for bracket in reversed(opening)]
    raw = "".join([*opening, inner, *closing]).encode()
    with nullcontext() if len(opening) <= strict_json.MAX_DEPTH else pytest.raises(ValueError, match="deep"):
        strict_json.parse(raw)


@pytest.mark.parametrize("sibling", ["[]", '{"a":{}}', "[[],[]]"])
def test_what_was_closed_before_counts_neither_for_nor_against_the_depth(sibling: str) -> None:
    def beside_many(depth: int) -> bytes:
        return ("[" + f"{sibling}," * 50 + "[" * (depth - 1) + "]" * depth).encode()

    assert strict_json.parse(beside_many(strict_json.MAX_DEPTH))
    with pytest.raises(ValueError, match="deep"):
        strict_json.parse(beside_many(strict_json.MAX_DEPTH + 1))
