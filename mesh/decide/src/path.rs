//! The path of a request, in the one form that policies judge, routes match and the server gets.
//!
//! Two readers that normalise differently read two paths, and a policy is then judged on one and served on the
//! other. So everything that is the same path to some reader (RFC 3986 6.2.2: dot segments, percent-encoded
//! plain letters, case of hex digits; and runs of slashes, which most servers merge) is brought to one form
//! before anything looks at it, and what readers disagree on (encoded slashes, backslashes, NUL) is refused.

/// The form of `path` that everybody sees from here on. Stands as `/` at the least, or `*`.
///
/// # Errors
/// What in it cannot be read in one way only.
pub fn normalise(path: &str) -> Result<String, &'static str> {
    if path == "*" {
        return Ok(path.to_owned());
    }
    if !path.starts_with('/') {
        return Err("the path does not start with a slash");
    }
    let decoded = decode(path)?;
    let mut kept: Vec<&str> = Vec::new();
    let mut directory = true;
    for segment in decoded.split('/') {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop().ok_or("the path leads above its root")?;
            }
            _ => kept.push(segment),
        }
    }
    let mut normal = String::with_capacity(decoded.len());
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    if directory {
        normal.push('/');
    }
    Ok(normal)
}

/// Percent-encoded octets that need no encoding as themselves, all others in upper case; octets outside ASCII
/// encoded.
fn decode(path: &str) -> Result<String, &'static str> {
    let mut decoded = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = (bytes.next().and_then(hex), bytes.next().and_then(hex));
                let (Some(high), Some(low)) = digits else {
                    return Err("the path holds a % that no two hex digits follow");
                };
                match high << 4 | low {
                    b'/' | b'\\' => {
                        return Err("the path holds an encoded slash, which servers read in different ways");
                    }
                    0 => return Err("the path holds an encoded NUL"),
                    plain if is_unreserved(plain) => decoded.push(char::from(plain)),
                    other => encode(other, &mut decoded),
                }
            }
            b'\\' => return Err("the path holds a backslash, which servers read in different ways"),
            0 => return Err("the path holds a NUL"),
            0x21..=0x7e => decoded.push(char::from(byte)),
            other => encode(other, &mut decoded),
        }
    }
    Ok(decoded)
}

fn encode(byte: u8, into: &mut String) {
    let digit = |value: u8| char::from_digit(value.into(), 16).map_or('0', |digit| digit.to_ascii_uppercase());
    into.extend(['%', digit(byte >> 4), digit(byte & 0xf)]);
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// RFC 3986 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_path_has_one_form() {
        for (path, normal) in [
            ("/", "/"),
            ("//", "/"),
            ("/admin", "/admin"),
            ("//admin", "/admin"),
            ("/./admin", "/admin"),
            ("/x/../admin", "/admin"),
            ("/x/..//admin/", "/admin/"),
            ("/%61dmin", "/admin"),
            ("/x/%2e%2E/admin", "/admin"),
            ("/x/.%2e/admin", "/admin"),
            ("/admin/.", "/admin/"),
            ("/admin/x/..", "/admin/"),
            ("/%c3%a9", "/%C3%A9"),
            ("/\u{e9}", "/%C3%A9"),
            ("/a%20b;v=1,2", "/a%20b;v=1,2"),
            ("/a%252fb", "/a%252fb"),
            ("/...", "/..."),
            ("*", "*"),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn what_servers_read_in_different_ways_is_refused() {
        for path in [
            "",
            "admin",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a\0",
            "/%",
            "/%2",
            "/%zz",
            "/%+1",
            "/..",
            "/x/../..",
            "/%2e%2e/x",
            "http://x/",
        ] {
            assert!(normalise(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(path in "/([a-c.%/]|%2[eEfF]|%4[1-3]|é){0,12}") {
            if let Ok(normal) = normalise(&path) {
                prop_assert_eq!(normalise(&normal), Ok(normal.clone()));
                prop_assert!(!normal.contains("//") && !normal.split('/').any(|segment| segment == ".." || segment == "."));
                prop_assert!(normal.is_ascii());
            }
        }

        #[test]
        fn no_path_panics(path in ".{0,40}") {
            let _ = normalise(&path);
        }
    }
}
