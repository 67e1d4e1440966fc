"""The providers of models beside chat completions: what each is asked, and the grammar of what it answers.

Owns their requests and events. Refuses to know connections, retries and turns.
"""
