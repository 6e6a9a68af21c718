//! The expiry time of a certificate, and the warning before it.

use chrono::{DateTime, TimeDelta, Utc};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The time before the expiry at which the warnings start. A manual renewal needs this time, and an
/// automatic renewal should have happened earlier.
const WARNING_PERIOD: TimeDelta = TimeDelta::days(14);

/// The earliest expiry time in a PEM file, because no client accepts the chain after it. `None` if
/// no certificate can be read.
pub(super) fn first_expiry(pem: &[u8]) -> Option<DateTime<Utc>> {
    CertificateDer::pem_slice_iter(pem).filter_map(|der| not_after(&der.ok()?)).min()
}

fn not_after(der: &[u8]) -> Option<DateTime<Utc>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    DateTime::from_timestamp(certificate.validity().not_after.timestamp(), 0)
}

/// A warning if a certificate has expired or expires soon.
pub(super) fn expiry_warning(not_after: DateTime<Utc>, now: DateTime<Utc>) -> Option<String> {
    let (day, remaining) = (not_after.format("%F %T UTC"), not_after - now);
    match remaining.num_days() {
        _ if remaining < TimeDelta::zero() => Some(format!("ended on {day}")),
        _ if remaining >= WARNING_PERIOD => None,
        0 => Some(format!("ends on {day}, in less than a day")),
        1 => Some(format!("ends on {day}, in a day")),
        days => Some(format!("ends on {day}, in {days} days")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn pem(not_after: i64) -> String {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let since_epoch = std::time::Duration::from_secs(not_after.unsigned_abs());
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch;
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn the_earliest_expiry_in_a_chain_counts() {
        assert_eq!(first_expiry(pem(NOW).as_bytes()), Some(at(NOW)));
        let chain = pem(NOW) + &pem(NOW - 1) + &pem(NOW + 1);
        assert_eq!(first_expiry(chain.as_bytes()), Some(at(NOW - 1)));
        // Certificates write dates from 2050 on in another format.
        assert_eq!(first_expiry(pem(2 * NOW).as_bytes()), Some(at(2 * NOW)));
        assert_eq!(first_expiry(b""), None);
        assert_eq!(first_expiry(&pem(NOW).as_bytes()[..200]), None);
    }

    #[test]
    fn the_warning_starts_two_weeks_before_the_expiry() {
        let warning = |seconds: i64| expiry_warning(at(NOW + seconds), at(NOW)).unwrap_or_default();
        let day = 86_400;
        assert_eq!(warning(14 * day), "");
        assert!(warning(14 * day - 1).ends_with(", in 13 days"));
        assert!(warning(2 * day - 1).ends_with(", in a day"));
        assert!(warning(day - 1).ends_with(", in less than a day"));
        assert!(warning(0).ends_with(", in less than a day"));
        assert_eq!(warning(-1), "ended on 2027-01-15 07:59:59 UTC");
    }
}
