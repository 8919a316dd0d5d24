//! `weft-fuzz`: one target, named by the environment's `WEFT_FUZZ`, driven by libFuzzer, whose arguments this program
//! takes.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fuzz::Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("WEFT_FUZZ").unwrap_or_default();
        let target = fuzz::named(&name);
        let names = fuzz::TARGETS.map(|target| target.name).join(" ");
        TARGET.get_or_init(|| target.unwrap_or_else(|| panic!("WEFT_FUZZ must be one of: {names}")));
    },
    |bytes: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(bytes);
        }
    }
);
