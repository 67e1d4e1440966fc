"""What a server still holds that nobody can ask for any more. The only place here that looks inside the rooms below.

Once every session is over, its tombstone forgotten and every window empty, all of it must be nothing.
"""

from vigil.scenarios.simulation.faults.faulty import Disk
from vigil.server.api.call import Site


def left_behind(site: Site, disk: Disk) -> dict[str, int]:
    """What is left, by name; empty when nothing leaks."""
    directory = site.directory
    counts = directory.counts()
    held = {
        "actors": counts.active,
        "tombstones": counts.expired,
        "sessions that count as expiring soon": counts.expiring_soon,
        "broken sessions": counts.invalid,
        "tombstones that wait to be forgotten": len(directory.registry.tombstones.forgotten),
        "rate-limit windows": directory.limits.statistics().windows,
        "event listeners": len(directory.hub),
        "event channels": len(directory.hub._channels),
        "kept events": sum(len(channel.kept) for channel in directory.hub._channels.values()),
        "agent turns": len(directory.turns),
        "turn queues": len(directory.turns._queues),
        "idempotency keys in flight": len(directory.keys._in_flight),
        "restart budgets": len(directory.host.budget._crashes),
        "open sockets": len(site.listeners),
        "actors' tasks": sum(len(nursery.child_tasks) for nursery in directory.host.nurseries),
    }
    stored = {f"stored {name.strip('_')}": len(records) for name, records in _records(disk).items()}
    return {name: count for name, count in (held | stored).items() if count}


def _records(disk: Disk) -> dict[str, dict[object, object]]:
    names = ("_sessions", "_messages", "_turns", "_answers", "_answer_keys", "_tombstones", "_windows")
    return {name: getattr(disk, name) for name in names}
