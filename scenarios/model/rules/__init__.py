"""The model's rules, one module for each part of the contract.

Owns what an answer may say about creation, keys, messages, events, limits and lists.
Refuses to know the order in which observations come (`scenarios.model.order`).
"""
