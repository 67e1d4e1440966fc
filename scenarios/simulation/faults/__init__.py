"""What goes wrong in a simulation and when: crashes, full disks, slow agents, lost answers.

Owns the plan that the seed draws, and the disk, agents and network that obey it.
Refuses to know people and judges.
"""
