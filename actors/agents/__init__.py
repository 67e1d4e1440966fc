"""Who answers. `base` is the protocol, `catalogue` names the agents, the other modules are the kinds."""
