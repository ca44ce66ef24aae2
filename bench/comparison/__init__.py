"""The comparison of Portcullis with other proxies on one machine; `bench/compare` runs it.

Rooms, in reading order: `machine` (cores, packages, builds), `place` (the files and ports of a run), `processes` (what
is started, what it used), `tokens` (sign-ins, forgeries), `peers` (every proxy and the upstream), `load` (wrk and
h2load), `probe` (replies checked meanwhile), `rounds` (who is measured when), `steady` and `held` (latency, handshakes,
idle connections), `scenarios` (what is measured), `cheats` (whether the checks find any), `targets` (the ratios to
reach), `report` and `chart` (what is written).
"""
