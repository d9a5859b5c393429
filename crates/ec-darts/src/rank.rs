//! Rank correlation, with which the paper compares search and retraining.

/// Kendall's tau-b of two rankings; none where one side has only ties.
///
/// ```text
/// tau_b = (concordant - discordant) / sqrt((pairs - ties_a) (pairs - ties_b))
/// ```
///
/// # Panics
/// Where the two do not have the same number of values.
///
/// # Source
/// Kendall 1938; EC-DARTS, section 5.6.
pub fn kendall_tau_b(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "two rankings of the same things");
    let (mut score, mut ties_a, mut ties_b, mut pairs) = (0_i64, 0_i64, 0_i64, 0_i64);
    for i in 0..a.len() {
        for j in 0..i {
            let (da, db) = (a[i] - a[j], b[i] - b[j]);
            pairs += 1;
            ties_a += i64::from(da == 0.0);
            ties_b += i64::from(db == 0.0);
            let product = da * db;
            score += i64::from(product > 0.0) - i64::from(product < 0.0);
        }
    }
    let scale = (((pairs - ties_a) * (pairs - ties_b)) as f64).sqrt();
    (scale > 0.0).then(|| score as f64 / scale)
}
