"""Every setting of `vigil serve`, and where its value comes from: flags, the environment, files, defaults.

Owns names, ranges, help texts and what is said of a wrong value.
Refuses to know what a setting is for.
"""
