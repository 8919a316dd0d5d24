//! Flags of the probes' part of `weft-cni agent`.

use crate::capture::SourcePorts;

/// How a node's kubelet reaches captured pods for probes and lifecycle hooks.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ProbeOptions {
    /// The kubelet's cgroup (v2) on this host, such as /system.slice/kubelet.service [default: looked for]
    #[arg(long, env = "WEFT_KUBELET_CGROUP", value_name = "PATH")]
    pub kubelet_cgroup: Option<String>,
    /// Source ports kept for the kubelet's connections to captured pods; all others are moved below them
    #[arg(long, env = "WEFT_PROBE_SOURCE_PORTS", value_name = "FIRST-LAST", default_value_t)]
    pub probe_source_ports: SourcePorts,
    /// Packet mark by which the Service proxy of this node asks for masquerading, so that it still is done
    #[arg(long, env = "WEFT_MASQUERADE_MARK", value_name = "BITS", default_value = "0x4000", value_parser = mark)]
    pub masquerade_mark: MasqueradeMark,
}

/// A packet mark: any of these bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MasqueradeMark(pub u32);

impl Default for MasqueradeMark {
    /// kube-proxy's own default, bit 14.
    fn default() -> Self {
        Self(0x4000)
    }
}

fn mark(written: &str) -> Result<MasqueradeMark, String> {
    let bits = match written.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => written.parse().ok(),
    };
    match bits {
        Some(bits) if bits != 0 => Ok(MasqueradeMark(bits)),
        _ => Err("write a number that is not 0, such as 0x4000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_number_with_bits() {
        assert_eq!(mark("0x4000"), Ok(MasqueradeMark(0x4000)));
        assert_eq!(mark("16"), Ok(MasqueradeMark(16)));
        for wrong in ["", "0", "0x", "x", "0x100000000"] {
            mark(wrong).unwrap_err();
        }
    }
}
