"""What is durable: one protocol in whole effects, and the stores that keep it.

Owns files, transactions and erasure.
Refuses to know why anything is written.
"""
