"""Amazon EventBridge's semantics: buses, rules, targets, archives and replays, connections, schedules."""
