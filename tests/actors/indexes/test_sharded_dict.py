"""A dict in parts is a dict, and no part of it is much of the whole."""

from hypothesis import given
from hypothesis import strategies as st

from vigil.actors.indexes.sharded_dict import PARTS, ShardedDict

keys = st.text(max_size=3)
moves = st.lists(st.tuples(st.sampled_from(["set", "del"]), keys, st.integers()))


@given(moves)
def test_it_holds_what_a_dict_holds(made: list[tuple[str, str, int]]) -> None:
    parted, plain = ShardedDict[int](), dict[str, int]()
    for what, key, value in made:
        if what == "set":
            parted[key] = plain[key] = value
        elif key in plain:
            del parted[key], plain[key]
        assert parted.get(key) == plain.get(key)
    assert len(parted) == len(plain)
    assert sorted(parted.values()) == sorted(plain.values())
    assert all(parted[key] == value for key, value in plain.items())


def test_no_part_holds_much_more_than_its_share() -> None:
    parted = ShardedDict[int]()
    for n in range(100 * PARTS):
        parted[f"user-{n}"] = n
    assert max(map(len, parted._parts)) < 200
