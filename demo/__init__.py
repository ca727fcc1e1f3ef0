"""The stand-in site, synthesised sounds to fill it, and a run of the whole job on them; see README.md."""
