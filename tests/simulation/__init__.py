"""A deterministic simulation of a whole cluster: the production engine over simulated ports.

One seed decides everything: the size of the cluster, its delays and its faults (`profile`). Time is
virtual (`event_loop`); Kafka (`broker`, `producers`), hosts (`host`) and the ports of the engine
(`shard_log`, `ports`, `snapshots`) are simulated, `fault_injector` and `load` act on them. A
second, plain implementation of protocol and ledger (`reference*`) follows the journal, and the
engine must agree with it (`invariants`, `liveness`, `snapshot_invariants`).

`scenarios` are scripted schedules, `planted` are bugs that the simulation must find.
"""
