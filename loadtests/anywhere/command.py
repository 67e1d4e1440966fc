"""`vigil load limits --profile FILE`: a profile's traffic, its verdict, and the exit code."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import httpx
import trio

from vigil.loadtests.anywhere import profile as profiles
from vigil.loadtests.anywhere.judging import Judgement, Seen, judge
from vigil.loadtests.anywhere.profile import Profile
from vigil.loadtests.anywhere.traffic import observe
from vigil.loadtests.verdict.verdict import Exit
from vigil.scenarios.reports import files

_UNKNOWN_SHARE_MAX = 0.1


def run(file: Path, json_file: Path | None) -> int:
    """Raises LoadError for a profile that cannot be used."""
    profile = profiles.load(file)
    print(
        f"{profile.request.method} {profile.request.url}: {profile.limit_text} for each of {len(profile.subjects)}, "
        f"{profile.window_s + profile.run_s:g} s",
        file=sys.stderr,
    )
    try:
        seen = trio.run(observe, profile)
    except httpx.HTTPError as error:
        print(f"vigil: {profile.request.url} does not do what it should: {error}", file=sys.stderr)
        return int(Exit.UNREACHABLE)
    judgement = judge(seen, profile.limit.requests, profile.window_s, profile.slack / 1000)
    code = _exit_code(judgement, seen)
    print(text(judgement, profile, code))
    if json_file is not None:
        files.write(json_file, json.dumps({"exitCode": int(code), **asdict(judgement)}, indent=2) + "\n")
    return int(code)


def _exit_code(judgement: Judgement, seen: Sequence[Seen]) -> Exit:
    if judgement.is_proven_wrong:
        return Exit.FAILED
    is_enough = judgement.reached and judgement.unknown <= _UNKNOWN_SHARE_MAX * len(seen)
    return Exit.HELD if is_enough else Exit.INCOMPLETE


def text(judgement: Judgement, profile: Profile, code: Exit) -> str:
    """For people."""
    words = {Exit.HELD: "held", Exit.FAILED: "NOT kept", Exit.INCOMPLETE: "incomplete: nothing is proven"}
    lines = [
        f"{profile.limit_text}: {words[code]}",
        f"  {judgement.admitted} admitted, {judgement.refused} refused, {judgement.unknown} without a clear answer",
        f"  {judgement.over_admitted} over-admitted, {judgement.falsely_refused} falsely refused, "
        f"{judgement.retry_early} Retry-After too early, {judgement.retry_late} too late, "
        f"{judgement.undecided} undecided",
    ]
    if not judgement.reached:
        lines.append("  no window was surely full: raise at_once or run_time, or check the limit")
    return "\n".join([*lines, *(f"  {finding}" for finding in judgement.findings)])
