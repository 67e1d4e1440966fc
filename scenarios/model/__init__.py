"""The reference model: given a history of requests and answers, says which of them the contract allows.

Sequential and plain, it shares no code with the server. A session is a list of possible worlds, one unless an
answer was lost or a commit was slow; every answer keeps the worlds that it fits, and the first that fits none is a
Violation. Commands of one session are judged in the order in which they were sent, reads against every state they
may have seen. Whoever feeds it keeps to this:

    sent        when the server reads the headers: nothing happens between that and the check of the limits
    answered    whole, streams to their end
    lost        when the server is done with the request, or has crashed: it may or may not have happened

To be read in this order: `world` (one possible state, and the formula), `session` and `judging` (what each answer may
say in it), `settling` (in which order, and what is not known), `sends` and `history` (messages), `keys`, `creation`,
`limits`, `lists`, `events`, `troubles` (what faults excuse), and `order`, which puts them together.
"""

from vigil.scenarios.model.order import Model
from vigil.scenarios.model.settings import AgentRules, ModelSettings

__all__ = ["AgentRules", "Model", "ModelSettings"]
