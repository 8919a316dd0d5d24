//! A process' life: workers, signals, drain.
