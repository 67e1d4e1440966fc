"""Whether an API key can be sent at all. Knows nothing of which keys a server has."""

_FIRST, _LAST = "!", "~"  # of the characters that a credential in a header may have


def api_key_fault(key: str) -> str:
    """What is wrong with it, to be read after "the API key"; "" when nothing is. Never shows the key."""
    if not key:
        return "is missing"
    if any(letter in "\r\n" for letter in key):
        return "has a line break in it"
    wrong = sum(not _FIRST <= letter <= _LAST for letter in key)
    return f"has {wrong} of its {len(key)} characters that no header can carry" if wrong else ""
