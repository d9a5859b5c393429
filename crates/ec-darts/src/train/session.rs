//! The starts of the program in a run folder.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The first second beyond the range of RFC 3339, counted from 1970.
const YEAR_10000_S: u64 = 253_402_300_800;

/// One start of the program in a run folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Session {
    started: String,
    device: String,
    version: String,
    commit: String,
    burn: String,
    from_step: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_step: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

impl Session {
    /// A session that begins now.
    pub fn begin(device: &str, from_step: u64) -> Self {
        Self {
            started: timestamp(SystemTime::now()),
            device: device.into(),
            version: crate::VERSION.into(),
            commit: crate::COMMIT.into(),
            burn: "0.22.1".into(),
            from_step,
            to_step: None,
            seconds: None,
        }
    }

    /// The last step that is known to be done.
    pub fn last_step(&self) -> Option<u64> {
        self.to_step.max(Some(self.from_step))
    }
}

/// A time as RFC 3339. A clock set before 1970 or after 9999 must not end a run.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).ok().filter(|since| since.as_secs() < YEAR_10000_S);
    match since {
        Some(_) => humantime::format_rfc3339_seconds(time).to_string(),
        None => "the clock is not set".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn any_clock_gives_a_text() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(timestamp(at(0)), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(at(YEAR_10000_S - 1)), "9999-12-31T23:59:59Z");
        let unset = [at(YEAR_10000_S), at(1 << 40), UNIX_EPOCH - Duration::from_secs(1)];
        assert!(unset.into_iter().all(|time| timestamp(time) == "the clock is not set"));
    }
}
