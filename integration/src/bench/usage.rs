//! What processes used, by `/proc`.

use std::fs;

use act::process::Failure;

/// Ticks a second of `/proc/<pid>/stat`: 100 on every Linux that has been seen (`USER_HZ`).
const TICKS: f64 = 100.0;

/// CPU seconds of a process, in user space and kernel, its waited-for children included.
///
/// # Errors
/// When it is gone.
pub(super) fn cpu(pid: u32) -> Result<f64, Failure> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| Failure(format!("{path}: {error}")))?;
    seconds(&text).ok_or_else(|| Failure(format!("{path} is not as expected")))
}

/// Resident bytes of a process.
///
/// # Errors
/// When it is gone.
pub(super) fn memory(pid: u32) -> Result<f64, Failure> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| Failure(format!("{path}: {error}")))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes
        .map(|it| it * 1024.0)
        .ok_or_else(|| Failure(format!("{path} is not as expected")))
}

/// Fields 14 to 17 of a stat line; the name before them may hold blanks and parentheses.
fn seconds(stat: &str) -> Option<f64> {
    let (_, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: Option<f64> = fields.get(11..15)?.iter().map(|it| it.parse::<f64>().ok()).sum();
    Some(ticks? / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_user_and_kernel_of_a_process_and_its_children() {
        let line = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 100 50 30 20 20 0 3 0 9 0 0";
        assert_eq!(seconds(line), Some(2.0));
        assert_eq!(seconds("7 (short) S 1"), None);
    }

    #[test]
    fn this_very_process_uses_something() {
        assert!(memory(std::process::id()).unwrap() > 1e5);
        assert!(cpu(std::process::id()).unwrap() >= 0.0);
    }
}
