"""What may come in: JSON, fields, bounds and the content policy.

Owns every rule of spec section 2.
Refuses to know what happens to what it lets in.
"""
