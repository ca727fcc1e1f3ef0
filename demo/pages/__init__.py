"""The page structure of each site, one layout a file: a catalogue and an address in, an answer out; no network.

Written by hand after the real pages: the same elements, attributes and faults of markup, none of the prose.
"""
