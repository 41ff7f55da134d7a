//! Times of records as text. Converting a second costs a look at the time
//! zone; a second is kept until the next one comes.

use jiff::Timestamp;
use jiff::tz::TimeZone;

const SECOND: i64 = 1_000_000_000;

/// `12:01:02.123456`, in a time zone.
pub struct LocalClock {
    zone: TimeZone,
    second: Option<i64>,
    text: String,
}

impl LocalClock {
    /// In the given time zone; [`TimeZone::system`] for people.
    pub fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            second: None,
            text: String::new(),
        }
    }

    /// Appends the time of day, in microseconds.
    pub fn push(&mut self, out: &mut String, time_ns: i64) {
        let second = time_ns.div_euclid(SECOND);
        if self.second != Some(second) {
            self.text = Timestamp::from_second(second).map_or_else(
                |_| "??:??:??".to_owned(),
                |time| {
                    let time = time.to_zoned(self.zone.clone());
                    format!(
                        "{:02}:{:02}:{:02}",
                        time.hour(),
                        time.minute(),
                        time.second()
                    )
                },
            );
            self.second = Some(second);
        }
        out.push_str(&self.text);
        out.push('.');
        push_digits(out, time_ns.rem_euclid(SECOND) / 1000, 6);
    }
}

/// RFC 3339 in UTC with nine decimals: `2026-01-01T12:01:02.123456789Z`.
#[derive(Default)]
pub struct UtcClock {
    second: Option<i64>,
    text: String,
}

impl UtcClock {
    /// Appends the time.
    pub fn push(&mut self, out: &mut String, time_ns: i64) {
        let second = time_ns.div_euclid(SECOND);
        if self.second != Some(second) {
            // Every i64 of nanoseconds lies within what a Timestamp can hold.
            let text = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.text = text.to_string();
            self.text.truncate("2026-01-01T12:01:02".len());
            self.second = Some(second);
        }
        out.push_str(&self.text);
        out.push('.');
        push_digits(out, time_ns.rem_euclid(SECOND), 9);
        out.push('Z');
    }
}

fn push_digits(out: &mut String, value: i64, digits: u32) {
    for at in (0..digits).rev() {
        let digit = value / 10_i64.pow(at) % 10;
        out.push(char::from(b'0' + digit as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_times_are_those_that_jiff_prints() {
        let mut clock = UtcClock::default();
        for time_ns in [
            0,
            1,
            -1,
            1_767_268_862_123_456_789,
            1_767_268_862_999_999_999,
            1_767_268_863_000_000_000,
            i64::MAX,
            i64::MIN,
        ] {
            let mut text = String::new();
            clock.push(&mut text, time_ns);
            let expected = Timestamp::from_nanosecond(i128::from(time_ns)).unwrap();
            assert_eq!(text, format!("{expected:.9}"));
            assert_eq!(text.parse::<Timestamp>().unwrap(), expected);
        }
    }

    #[test]
    fn local_times_follow_the_zone_across_its_changes() {
        // Half an hour before and after the clocks of this zone go forward.
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let change = "2026-03-29T01:00:00Z"
            .parse::<Timestamp>()
            .unwrap()
            .as_nanosecond() as i64;
        let mut clock = LocalClock::new(zone);
        let mut text = String::new();
        clock.push(&mut text, change - 1_000);
        text.push(' ');
        clock.push(&mut text, change + 42_000);
        assert_eq!(text, "01:59:59.999999 03:00:00.000042");
    }
}
