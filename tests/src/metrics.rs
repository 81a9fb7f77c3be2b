//! The figures of a relay's `/metrics`: the Prometheus text format, read strictly enough to notice nonsense.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads a scrape.
    pub fn parse(text: &str) -> Result<Metrics> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines
            .map(|line| sample(line).with_context(|| format!("reading {line:?}")))
            .collect::<Result<_>>()?;
        Ok(Metrics { samples })
    }

    /// The sum over all series of `name` that carry all of `labels`; 0 if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(wanted).map(|sample| sample.value).sum()
    }

    /// Whether there is a series of that name.
    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }

    /// Every series of `name`, as `labels value` lines: for the output of a test.
    pub fn show(&self, name: &str) -> String {
        let of_name = self.samples.iter().filter(|sample| sample.name == name);
        of_name.map(|sample| format!("{:?} {}", sample.labels, sample.value)).collect::<Vec<_>>().join("; ")
    }

    /// All label values of all series: to look for what must never be there.
    pub fn label_values(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().flat_map(|sample| sample.labels.values().map(String::as_str))
    }
}

fn sample(line: &str) -> Result<Sample> {
    let (series, value) = match line.rfind('}') {
        Some(end) => line.split_at(end + 1),
        None => line.split_at(line.find(' ').context("no value")?),
    };
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, pairs(labels.strip_suffix('}').context("no closing brace")?)?),
        None => (series, BTreeMap::new()),
    };
    let value = value.split_whitespace().next().context("no value")?.parse()?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

fn pairs(mut text: &str) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (key, rest) = text.split_once("=\"").context("a label without a value")?;
        let Some(end) = closing_quote(rest) else { bail!("a label without its closing quote") };
        labels.insert(key.to_owned(), rest[..end].to_owned());
        text = rest[end + 1..].trim_start_matches(',');
    }
    Ok(labels)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, char)| {
        let quote = char == '"' && !escaped;
        escaped = char == '\\' && !escaped;
        quote.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_summed_by_labels() {
        let text = "# HELP x y\n# TYPE x counter\nx{a=\"1\",b=\"two, {3}\"} 4\nx{a=\"2\"} 5.5\n\ny 7 1700000000\nz{} 1e3\n";
        let metrics = Metrics::parse(text).unwrap();
        assert_eq!(metrics.sum("x", &[]), 9.5);
        assert_eq!(metrics.sum("x", &[("a", "1")]), 4.0);
        assert_eq!(metrics.sum("x", &[("b", "two, {3}")]), 4.0);
        assert_eq!(metrics.sum("x", &[("c", "1")]), 0.0);
        assert_eq!((metrics.sum("y", &[]), metrics.sum("z", &[])), (7.0, 1000.0));
        assert!(metrics.has("y") && !metrics.has("w"));
    }

    #[test]
    fn nonsense_is_noticed() {
        for text in ["x", "x{a=\"1\" 3", "x{a=1} 3", "x three"] {
            assert!(Metrics::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
