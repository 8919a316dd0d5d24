//! What iperf3 and wrk print, read.

use act::process::Failure;
use serde_json::Value;

/// What iperf3 moved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moved {
    pub(super) bytes: f64,
    pub(super) gbit_per_s: f64,
    /// The slowest stream's bytes over an even share of all.
    pub(super) slowest: f64,
}

/// What wrk asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Asked {
    pub(super) requests: f64,
    pub(super) per_second: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    /// Its own words about errors; empty without any.
    pub(super) errors: String,
}

/// Reads `iperf3 -J`.
pub(super) fn iperf(text: &str) -> Result<Moved, Failure> {
    let report: Value = serde_json::from_str(text).map_err(|error| Failure(format!("iperf3 told no JSON: {error}")))?;
    if let Some(why) = report.get("error").and_then(Value::as_str) {
        return Err(Failure(format!("iperf3: {why}")));
    }
    let number = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_f64);
    let missing = || Failure("iperf3 tells no sum of what was received".into());
    let bytes = number(&report, "/end/sum_received/bytes").ok_or_else(missing)?;
    let bits = number(&report, "/end/sum_received/bits_per_second").ok_or_else(missing)?;
    let streams = report.pointer("/end/streams").and_then(Value::as_array);
    let each: Vec<_> = streams
        .into_iter()
        .flatten()
        .filter_map(|stream| number(stream, "/receiver/bytes"))
        .collect();
    let least = each.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(Moved {
        bytes,
        gbit_per_s: bits / 1e9,
        slowest: least * each.len() as f64 / bytes,
    })
}

/// Reads `wrk --latency`.
pub(super) fn wrk(text: &str) -> Result<Asked, Failure> {
    let mut asked = Asked::default();
    for line in text.lines().map(str::trim) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["50%", time] => asked.p50 = milliseconds(time),
            ["90%", time] => asked.p90 = milliseconds(time),
            ["99%", time] => asked.p99 = milliseconds(time),
            ["Requests/sec:", rate] => asked.per_second = rate.parse().unwrap_or(0.0),
            [count, "requests", "in", ..] => asked.requests = count.parse().unwrap_or(0.0),
            ["Socket", "errors:", ..] | ["Non-2xx", ..] => asked.errors += line,
            _ => {}
        }
    }
    if asked.requests > 0.0 && asked.per_second > 0.0 {
        Ok(asked)
    } else {
        Err(Failure(format!("wrk told nothing: {}", crate::world::first_line(text))))
    }
}

fn milliseconds(time: &str) -> f64 {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 60e3)];
    let read = |(unit, scale): (&str, f64)| Some(time.strip_suffix(unit)?.parse::<f64>().ok()? * scale);
    units.into_iter().find_map(read).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_read_in_milliseconds_with_its_errors() {
        let text = "  Latency Distribution\n     50%  170.00us\n     75%    1.0ms\n     90%    2.50ms\n     99%    1.02s\n  \
                    5511 requests in 3.00s, 1.30MB read\n  Socket errors: connect 0, read 3, write 0, timeout 0\n\
                    Requests/sec:   1837.00\nTransfer/sec:    443.00KB\n";
        let asked = wrk(text).unwrap();
        for (read, meant) in [(asked.p50, 0.17), (asked.p90, 2.5), (asked.p99, 1020.0)] {
            assert!((read - meant).abs() < 1e-6, "{read} for {meant}");
        }
        assert_eq!((asked.requests, asked.per_second), (5511.0, 1837.0));
        assert!(asked.errors.contains("read 3"));
        wrk("unable to connect\n").unwrap_err();
    }

    #[test]
    fn iperf_is_read_with_its_slowest_stream() {
        let stream = |bytes: u32| format!(r#"{{"receiver": {{"bytes": {bytes}}}}}"#);
        let text = format!(
            r#"{{"end": {{"streams": [{}, {}], "sum_received": {{"bytes": 400, "bits_per_second": 2e9}}}}}}"#,
            stream(100),
            stream(300)
        );
        let moved = iperf(&text).unwrap();
        assert_eq!((moved.bytes, moved.gbit_per_s, moved.slowest), (400.0, 2.0, 0.5));
        iperf(r#"{"error": "refused"}"#).unwrap_err();
    }
}
