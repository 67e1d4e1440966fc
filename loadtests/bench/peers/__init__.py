"""What Vigil is measured against. Each module is a server: `python -m vigil.loadtests.bench.peers.NAME` prints its URL.

A ceiling answers every request with `ANSWER`; a peer keeps the routes of `/api/messaging/sessions` in its own way.
"""

ANSWER = (
    b'{"sessionId":"00000000-0000-0000-0000-000000000000","agentId":"silent","userId":"user-456",'
    b'"createdAt":"2026-11-22T09:00:00.000Z","lastActivity":"2026-11-22T09:00:00.000Z",'
    b'"expiresAt":"2026-11-22T09:30:00.000Z","maxExpiresAt":"2026-11-22T12:00:00.000Z",'
    b'"metadata":{},"timeoutConfig":{"timeoutMinutes":30,"autoRenew":true,"maxDurationMinutes":180,'
    b'"warningThresholdMinutes":5},"renewalCount":0,"timeRemaining":1800000,"isNearExpiration":false,'
    b'"status":"active"}'
)
"""As long as Vigil's own answer about a session."""
