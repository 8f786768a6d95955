//! The thresholds file and its calibration.

use infera_types::job::Numbers;
use infera_types::numbers::NumericClass;
use infera_verifier::decisions::compare::{Agreement, Comparison, Distance};
use infera_verifier::decisions::thresholds::calibration::{
    Calibration, CalibrationError, GAPS_MIN, MARGIN, PAIRS_MIN, QUANTILE, TOLERANCE_MIN, quantile,
};
use infera_verifier::decisions::thresholds::{ClassPair, Thresholds, ThresholdsError, Tolerance};

use super::sample::class;

#[test]
fn the_committed_file_is_sound() {
    let thresholds = Thresholds::committed().unwrap();
    assert!(!thresholds.version().is_empty());
    let same = thresholds.tolerance(&ClassPair::of(&class("toy", "a"), &class("toy", "a")));
    let other_model = thresholds.tolerance(&ClassPair::of(&class("toy", "a"), &class("plain", "a")));
    let unknown = thresholds.tolerance(&ClassPair::of(&class("toy", "a"), &class("plain", "b")));
    assert!(same.max <= other_model.max && other_model.max <= unknown.max, "closer pairs, closer bounds");
}

/// SmolLM2's graphs as `make model-smollm2` makes them: in fp32, in 8 bits and in 4.
const SMOLLM2: [&str; 3] = [
    "5b0fd748179cfc5af50deeb46e5ac36bba0946610cd613f9b085fc228e79e9b9",
    "433fb844866c7d2b708db2953fe02cdede3f74164d16d50ba8fe95e8e8b27303",
    "8a3ec8ab2d752515a47eeb01c8ec9c8bba3118b5eb5a4ab8ae03dd8a25d2669d",
];

/// Rows of SmolLM2's graphs, which are found by their digests in every network that serves them.
#[test]
fn the_committed_file_knows_smollm2() {
    let thresholds = Thresholds::committed().unwrap();
    let graph = |digest: &str| NumericClass {
        model_digest: digest.parse().unwrap(),
        compute: "fp32-chunk64".to_owned(),
        ..class("smollm2", "x86_64-avx2")
    };
    let graphs = SMOLLM2.map(graph);
    for (place, one) in graphs.iter().enumerate() {
        for other in &graphs[place..] {
            for pair in [ClassPair::of(one, other), ClassPair::scored(one, other)] {
                let found = thresholds.tolerance(&pair);
                assert!(found.pairs >= PAIRS_MIN, "{pair}: {found:?}");
            }
        }
        // The same graph on a GPU was not measured.
        let cuda =
            NumericClass { provider: "cuda".to_owned(), compute: "fp32-varying".to_owned(), ..one.clone() };
        assert_eq!(thresholds.tolerance(&ClassPair::of(&cuda, &cuda)), thresholds.default_tolerance());
    }
}

#[test]
fn wrong_files_are_refused() {
    let tolerance = "gap = 0.1\nmean = 0.1\nmax = 0.1\npairs = 0\n";
    let file = |rows: &str| Thresholds::parse(&format!("version = \"1\"\n[default]\n{tolerance}{rows}"));
    assert!(file("").is_ok());
    assert!(matches!(Thresholds::parse("version = \"1\""), Err(ThresholdsError::Malformed(_))));
    let row = format!("[[rows]]\ndiffers = [\"model\"]\n{tolerance}");
    assert!(matches!(file(&format!("{row}{row}")), Err(ThresholdsError::Repeated(name)) if name == "model"));
    let negative = row.replace("gap = 0.1", "gap = -0.1");
    assert!(matches!(file(&negative), Err(ThresholdsError::Tolerance { field: "gap", .. })));
    let unknown = row.replace("\"model\"", "\"weather\"");
    assert!(matches!(file(&unknown), Err(ThresholdsError::Malformed(_))));
    assert!(matches!(file("surprise = 1\n"), Err(ThresholdsError::Malformed(_))));
}

#[test]
fn these_very_classes_go_before_any_classes() {
    let [toy, plain, int4] = ["toy", "plain", "int4"].map(|model| class(model, "a"));
    let text = format!(
        "version = \"1\"
        [default]
        gap = 9.0\nmean = 9.0\nmax = 9.0\npairs = 0
        [[rows]]
        differs = [\"model\"]
        gap = 1.0\nmean = 1.0\nmax = 1.0\npairs = 0
        [[rows]]
        differs = [\"model\"]
        sides = [
            {{ model = \"{}\", provider = \"cpu\", compute = \"f32\" }},
            {{ model = \"{}\", provider = \"cpu\", compute = \"f32\" }},
        ]
        gap = 2.0\nmean = 2.0\nmax = 2.0\npairs = 0
        [[rows]]
        differs = []
        against = \"scored\"
        gap = 3.0\nmean = 3.0\nmax = 3.0\npairs = 0",
        toy.model_digest, plain.model_digest
    );
    let thresholds = Thresholds::parse(&text).unwrap();
    let gap = |a: &NumericClass, b: &NumericClass| thresholds.tolerance(&ClassPair::of(a, b)).gap;
    assert_eq!((gap(&toy, &plain), gap(&plain, &toy)), (2.0, 2.0));
    assert_eq!(gap(&toy, &int4), 1.0);
    assert_eq!(gap(&toy, &class("toy", "b")), 9.0);
    // A score is another pair than an answer, and a GPU's is another class though both are of one model.
    let scored = |a: &NumericClass, b: &NumericClass| thresholds.tolerance(&ClassPair::scored(a, b)).gap;
    assert_eq!((gap(&toy, &toy), scored(&toy, &toy), scored(&toy, &plain)), (9.0, 3.0, 9.0));
    let cuda = |of: &NumericClass| NumericClass { provider: "cuda".to_owned(), ..of.clone() };
    assert_eq!(gap(&cuda(&toy), &cuda(&plain)), 1.0);
}

#[test]
fn quantiles_are_nearest_ranks() {
    let values: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
    for (level, expected) in [(0.0, 1.0), (0.5, 500.0), (0.999, 999.0), (0.9995, 1000.0), (1.0, 1000.0)] {
        assert_eq!(quantile(&values, level), expected, "{level}");
    }
    assert!(quantile(&[], 0.5).is_nan());
}

fn comparison(hardware: &str, max: f64, agreement: Agreement) -> Comparison {
    Comparison {
        agreement,
        numbers: Numbers::Inside,
        distance: Distance { mean: max / 10.0, max, positions: 5 },
        gap: (agreement != Agreement::Identical).then_some(max / 2.0),
        pair: ClassPair::of(&class("toy", "a"), &class("toy", hardware)),
    }
}

const DEFAULT: Tolerance = Tolerance { gap: 0.25, mean: 0.02, max: 0.125, pairs: 0 };

fn before(rows: &str) -> Thresholds {
    let default = "gap = 0.25\nmean = 0.02\nmax = 0.125\npairs = 0\n";
    Thresholds::parse(&format!("version = \"1\"\n[default]\n{default}{rows}")).unwrap()
}

#[test]
fn calibration_writes_a_file_that_reads_back() {
    let mut calibration = Calibration::default();
    for pair in 0..PAIRS_MIN {
        calibration.add(&comparison("a", 0.0, Agreement::Identical));
        let agreement =
            if pair % 100 == 0 { Agreement::Benign { position: 4 } } else { Agreement::Identical };
        calibration.add(&comparison("b", (pair + 1) as f64 * 1e-5, agreement));
    }
    let quantiles = calibration.quantiles(&[0.5, QUANTILE]);
    assert_eq!(quantiles.len(), 2);
    let across = quantiles.iter().find(|one| !one.pair.is_one_class()).unwrap();
    assert_eq!((across.pairs, across.diverged), (2_000, 20));
    assert!((across.maxima[0] - 0.01).abs() < 1e-9 && (across.maxima[1] - 0.01998).abs() < 1e-9);
    assert_eq!(across.gaps.len(), 2);

    let before = before("");
    let thresholds = Thresholds::parse(&calibration.to_toml("2026-11-22", &before).unwrap()).unwrap();
    assert_eq!(thresholds.version(), "2026-11-22");
    let same = thresholds.tolerance(&ClassPair::of(&class("toy", "a"), &class("toy", "a")));
    assert_eq!((same.max, same.mean, same.pairs), (TOLERANCE_MIN, TOLERANCE_MIN, 2_000));
    let across = thresholds.tolerance(&across.pair);
    assert!((across.max - MARGIN * 0.01998).abs() < 1e-9, "{across:?}");
    assert_eq!(across.gap, 2.0 * across.max);
    let unknown = thresholds.tolerance(&ClassPair::of(&class("toy", "a"), &class("plain", "b")));
    assert_eq!(unknown, &DEFAULT);
}

/// Where honest pairs diverge often, their gaps are measured, and not bounded by distances, which would excuse anything.
/// Rows of pairs that were not measured again stay.
#[test]
fn gaps_are_measured_where_there_are_enough_and_other_rows_stay() {
    let tolerance = "gap = 7.0\nmean = 7.0\nmax = 7.0\npairs = 5000\n";
    let kept = format!("[[rows]]\ndiffers = [\"runtime\"]\n{tolerance}");
    let replaced = format!("[[rows]]\ndiffers = [\"hardware\"]\n{tolerance}");
    let of = |diverged: u64, before: &Thresholds| {
        let mut calibration = Calibration::default();
        for pair in 0..PAIRS_MIN {
            let agreement = match pair < diverged {
                true => Agreement::Conflict { position: 4 },
                false => Agreement::Identical,
            };
            calibration.add(&Comparison { gap: None, ..comparison("b", 2.0, agreement) });
            calibration.add(&Comparison {
                gap: (pair < diverged).then_some(0.5),
                ..comparison("b", 2.0, agreement)
            });
        }
        let unlisted = calibration.quantiles(&[0.5])[0].unlisted;
        assert_eq!(unlisted, diverged);
        Thresholds::parse(&calibration.to_toml("2", before).unwrap()).unwrap()
    };
    let pair = ClassPair::of(&class("toy", "a"), &class("toy", "b"));
    let before = before(&(kept + &replaced));
    for (diverged, gap) in [(GAPS_MIN as u64, MARGIN * 0.5), (GAPS_MIN as u64 - 1, 2.0 * MARGIN * 2.0)] {
        let thresholds = of(diverged, &before);
        assert_eq!(thresholds.tolerance(&pair).gap, gap, "{diverged}");
        // One row for all classes stays beside that of these.
        let any = ClassPair::of(&class("other", "a"), &class("other", "b"));
        assert_eq!(thresholds.tolerance(&any).gap, 7.0);
        let mut later = class("toy", "a");
        later.runtime.push_str(".1");
        assert_eq!(thresholds.tolerance(&ClassPair::of(&class("toy", "a"), &later)).pairs, 5_000);
    }
}

#[test]
fn too_few_pairs_are_refused() {
    let mut calibration = Calibration::default();
    for _ in 1..PAIRS_MIN {
        calibration.add(&comparison("b", 0.1, Agreement::Identical));
    }
    let expected = CalibrationError::TooFew { pair: "hardware".to_owned(), pairs: PAIRS_MIN - 1 };
    assert_eq!(calibration.to_toml("1", &before("")), Err(expected));
}
