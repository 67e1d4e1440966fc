"""An expected error as it is told on standard error: a line for each thing that is wrong, then a right one."""


def refusal(error: BaseException) -> str:
    """`error.example`, where it has one, is what a file like the refused one could look like."""
    wrong = "\n".join(f"vigil: {line}" for line in str(error).splitlines())
    example = getattr(error, "example", "")
    if not example:
        return wrong
    return "\n".join([wrong, "This is how one could look:", *(f"  {line}" for line in example.splitlines())])
