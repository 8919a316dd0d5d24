//! What an API server would do to an object before storing it: defaults and validation of the CRDs' own
//! schemas (design 1).
