"""Where sessions outlive the process. `base` is the protocol; the others keep it."""
