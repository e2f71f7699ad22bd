//! Tests of `report`: its figures, and its page in a browser.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::browser::Browser;
#[cfg(feature = "postgres")]
use crate::server::Server;
use crate::support::{Bench, Run, tree};

/// A text that would end the page's embedded data if it were not escaped, and then print to the console.
const HOSTILE: &str =
    "</script><!--<script>console.error('run')</script><img src=x onerror=console.error('run')>";

/// Five events (two of them failures), a checkpoint and two dead letters.
fn fill(bench: &Bench) {
    let mut lines = String::new();
    for (kind, worktree, text) in [
        ("agent_started", "w1", "first"),
        ("agent_started", "w2", "second"),
        ("agent_failed", "w1", HOSTILE),
        ("agent_done", "w2", "third"),
    ] {
        lines += &format!("{}\n", json!({"type": kind, "worktree": worktree, "text": text}));
    }
    lines += "{\"status\":\"error\",\"text\":\"without a worktree\"}\n";
    bench.append(&lines);
    let job = ["--repo", "shop", "--job", "job"];
    let save = [&["checkpoint", "save", "--phase", "map"], &job[..]].concat();
    bench.feed(&save, "{\"done\":2}").code(0);
    let item = |id: &str, parked: bool| {
        json!({"item_id": id, "item_data": HOSTILE, "reprocess_eligible": !parked, "failure_history": [
            {"error_type": "Timeout", "error_message": HOSTILE, "timestamp": "2026-01-01T00:00:00Z"},
        ]})
    };
    let push = [&["dlq", "push"], &job[..]].concat();
    let items = format!("{}\n{}\n", item("a", false), item("b", true));
    bench.feed(&push, items).code(0);
}

fn report(bench: &Bench, arguments: &[&str]) -> (Run, PathBuf) {
    let file = bench.path("page.html");
    let start = ["report", "--output", file.to_str().unwrap(), "--repo", "shop"];
    (bench.run(&[&start, arguments].concat()), file)
}

/// The embedded data of a page.
fn data(file: &Path) -> Value {
    let page = std::fs::read_to_string(file).unwrap();
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn check_figures(bench: &Bench) {
    fill(bench);
    let (run, file) = report(bench, &["--job", "job"]);
    let run = run.code(0);
    assert!(run.out.contains("page.html: 1 job"), "{}", run.out);
    let data = data(&file);
    assert_eq!(data["scope"]["job"], "job");
    assert_eq!(
        (&data["counts"]["events"], &data["counts"]["damaged"]),
        (&5.into(), &0.into())
    );
    assert_eq!(
        (&data["events"]["all"]["count"], &data["events"]["all"]["marked"]),
        (&5.into(), &2.into())
    );
    let row = |row: &Value| (row["name"].clone(), row["count"].clone(), row["marked"].clone());
    assert_eq!(row(&data["events"]["rows"][0]), (json!("w1"), json!(2), json!(1)));
    assert_eq!(
        row(&data["events"]["nameless"]),
        (json!(null), json!(1), json!(1))
    );
    assert_eq!(
        row(&data["kinds"]["rows"][0]),
        (json!("agent_started"), json!(2), json!(0))
    );
    assert_eq!(
        (&data["letters"]["items"], &data["letters"]["parked"]),
        (&2.into(), &1.into())
    );
    let signatures = &data["by_signature"];
    assert_eq!(
        (&signatures["all"]["count"], &signatures["all"]["marked"]),
        (&2.into(), &1.into())
    );
    assert_eq!(signatures["start"], 1_767_225_600_000_i64);
    assert_eq!(data["checkpoint_rows"][0]["phase"], "map");
    assert!(data["space"]["events"].as_u64().unwrap() > 0);
    let entries = data["entries"]["shown"].as_array().unwrap();
    assert_eq!((entries.len(), &data["entries"]["offered"]), (7, &7.into()));
    let texts: Vec<&str> = entries
        .iter()
        .map(|entry| entry["text"].as_str().unwrap())
        .collect();
    assert!(texts[0].contains("without a worktree"), "{texts:?}");
    assert_eq!(serde_json::from_str::<Value>(texts[2]).unwrap()["text"], HOSTILE);
}

#[test]
fn a_page_has_the_figures_of_a_job() {
    check_figures(&Bench::new());
}

#[test]
fn a_page_has_the_figures_of_a_job_in_memory() {
    check_figures(&Bench::of_memory());
}

#[cfg(feature = "postgres")]
#[test]
fn a_page_has_the_figures_of_a_job_in_a_database() {
    let Some(server) = Server::start() else { return };
    let bench = Bench::new()
        .with("PRODIGY_STORAGE_TYPE", "postgres")
        .with("PRODIGY_STORAGE_URL", &server.url());
    bench.run(&["schema", "migrate"]).code(0);
    check_figures(&bench);
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_gets_a_progress_bar_and_a_pipe_gets_none() {
    let bench = Bench::new();
    bench.append(&format!("\"{}\"\n", "x".repeat(60_000)).repeat(100));
    for (file, flags) in [("job.html", &["--job", "job"][..]), ("all.html", &[])] {
        let file = bench.path(file);
        let start = ["report", "--repo", "shop", "--output", file.to_str().unwrap()];
        let arguments = [&start, flags].concat();
        let piped = bench.run(&arguments).code(0);
        assert_eq!(piped.err, "");
        std::fs::remove_file(&file).unwrap();
        let Some(tool) = bench.on_terminal(&arguments) else {
            return;
        };
        let shown = crate::support::run(tool, "").code(0);
        assert!(shown.out.contains(" of 5.7"), "{:?}", shown.out);
        // The progress bar is removed before the result is printed.
        let last = shown.out.trim_end().rsplit(['\n', '\r']).next().unwrap();
        assert!(last.contains(": 1 job"), "{:?}", shown.out);
    }
}

#[test]
fn a_page_of_a_repository_sums_its_jobs_and_nothing_else_is_written() {
    let bench = Bench::new();
    fill(&bench);
    let other = ["events", "append", "--repo", "shop", "--job", "other"];
    bench.feed(&other, "1\n2\n").code(0);
    let before = tree(&bench.root());
    let (run, file) = report(&bench, &[]);
    run.code(0);
    assert_eq!(tree(&bench.root()), before);
    assert_eq!(
        tree(file.parent().unwrap())
            .iter()
            .filter(|file| file.ends_with("page.html"))
            .count(),
        1
    );
    let data = data(&file);
    assert_eq!((&data["jobs"], &data["counts"]["events"]), (&2.into(), &7.into()));
    let rows = data["job_rows"].as_array().unwrap();
    let events: Vec<(&Value, &Value)> = rows.iter().map(|row| (&row["job"], &row["events"])).collect();
    assert!(events.contains(&(&json!("job"), &json!(5))), "{events:?}");
    assert!(events.contains(&(&json!("other"), &json!(2))), "{events:?}");
}

#[test]
fn a_page_never_replaces_a_file_and_a_job_that_is_missing_has_none() {
    let bench = Bench::new();
    fill(&bench);
    let (run, file) = report(&bench, &["--job", "jbo"]);
    run.code(4).says("no job `jbo`").says("job");
    let (run, _) = {
        let output = file.to_str().unwrap();
        (
            bench.run(&["report", "--output", output, "--repo", "nothing"]),
            output,
        )
    };
    run.code(4).says("nothing is stored under that name");
    assert!(!file.exists());
    std::fs::write(&file, "mine").unwrap();
    let (run, file) = report(&bench, &["--job", "job"]);
    run.code(1).says("is there already").says("name another file");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
    let missing = bench.path("missing/page.html");
    let run = bench.run(&["report", "--output", missing.to_str().unwrap(), "--repo", "shop"]);
    run.code(1).says("missing");
}

#[test]
fn a_page_of_damaged_events_has_the_rest_and_says_so() {
    let bench = Bench::new();
    fill(&bench);
    let log = bench.only_file("events/shop/job", "", ".jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replacen("second", "sec0nd", 1)).unwrap();
    let (run, file) = report(&bench, &["--job", "job"]);
    run.code(5).says("damaged");
    let counts = data(&file)["counts"].clone();
    assert_eq!((&counts["events"], &counts["damaged"]), (&4.into(), &1.into()));
}

/// The texts and names consist of `<`, which takes six bytes when it is escaped.
#[test]
fn a_page_of_hostile_texts_is_small() {
    let bench = Bench::new();
    let long = "<".repeat(3000);
    let lines: String = (0..3000)
        .map(|number| {
            let name = format!("{number}{long}");
            format!(
                "{}\n",
                json!({"type": &name[..500], "worktree": &name[..500], "status": "failed", "text": long})
            )
        })
        .collect();
    let append = [
        "events", "append", "--repo", "shop", "--job", "job", "--batch", "1000",
    ];
    bench.feed(&append, lines).code(0);
    let (run, file) = report(&bench, &["--job", "job"]);
    run.code(0);
    let length = file.metadata().unwrap().len();
    assert!(length < 5_000_000, "{length}");
    assert_eq!(data(&file)["entries"]["offered"], 3000);
}

#[test]
fn a_browser_shows_the_page_and_searches_in_it_and_runs_nothing_that_is_stored() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let bench = Bench::new();
    fill(&bench);
    let (run, file) = report(&bench, &["--job", "job"]);
    run.code(0);
    browser.open(&file, 1400);

    assert_eq!(browser.value("document.title"), "job \u{2013} storage report");
    let figures = browser.value("document.getElementById('figures').innerText");
    assert!(
        figures.as_str().unwrap().contains("Failures\n2 40.0%"),
        "{figures}"
    );
    assert_eq!(
        browser.value("document.querySelectorAll('#entries tbody tr').length"),
        7
    );
    // Every table column has a heading, and every row has a heading cell.
    assert_eq!(
        browser.value(
            "[...document.querySelectorAll('table')].filter((table) => !table.caption || \
        [...table.rows].some((row) => row.cells.length !== table.tHead.rows[0].cells.length) || \
        [...table.tBodies[0].rows].some((row) => row.cells[0].scope !== 'row')).length"
        ),
        0
    );
    assert_eq!(
        browser.value("[...document.querySelectorAll('svg')].filter((svg) => !svg.ariaLabel).length"),
        0
    );

    // The hostile event is shown as text only.
    let shown = browser.value(
        "[...document.querySelectorAll('#entries tbody tr')].filter((row) => \
        row.textContent.includes('<img src=x onerror=')).length",
    );
    assert_eq!(shown, 3);
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    assert_eq!(browser.value("document.querySelectorAll('script').length"), 2);

    let search = |browser: &mut Browser, id: &str, value: &str| {
        browser.value(&format!(
            "{{ const field = document.getElementById('{id}'); field.value = '{value}'; \
             field.dispatchEvent(new Event('input', {{bubbles: true}})); }}"
        ));
        browser.value("document.getElementById('found').textContent")
    };
    assert_eq!(search(&mut browser, "words", "SECOND w2"), "1 of 7 found");
    let text = browser.value("document.querySelector('#entries tbody td:last-child').innerText");
    assert!(text.as_str().unwrap().contains("\"second\""), "{text}");
    assert_eq!(search(&mut browser, "words", "nowhere"), "0 of 7 found");
    assert_eq!(search(&mut browser, "words", ""), "7 of 7 found");
    assert_eq!(search(&mut browser, "sort", "dead_letter"), "2 of 7 found");
    assert_eq!(search(&mut browser, "sort", ""), "7 of 7 found");
    assert_eq!(search(&mut browser, "worktree", "w1"), "2 of 7 found");
    // A name in a table is a button for a filter.
    browser.value("[...document.querySelectorAll('#kinds button')].find((link) => link.textContent === 'agent_started').click()");
    assert_eq!(
        browser.value("document.getElementById('found').textContent"),
        "2 of 7 found"
    );

    // A bar of the chart is a button for a filter by time.
    browser.value("document.querySelector('.plot').scrollIntoView({block: 'center'})");
    let bar = "{ const box = document.querySelector('.plot').getBoundingClientRect(); \
               document.querySelector('.plot').dispatchEvent(new MouseEvent('click', {clientX: box.left + 1})); \
               document.getElementById('found').textContent }";
    let found = browser.value(bar);
    assert!(
        found.as_str().unwrap().starts_with("0 of 7 found, from 20"),
        "{found}"
    );

    // Even if a script got into the page, the browser would neither run it nor load anything.
    assert!(
        browser.of("Runtime.consoleAPICalled").is_empty() && browser.of("Runtime.exceptionThrown").is_empty()
    );
    assert!(
        browser.of("Log.entryAdded").is_empty(),
        "{:?}",
        browser.of("Log.entryAdded")
    );
    let requests = browser.of("Network.requestWillBeSent");
    assert_eq!(requests.len(), 1, "{requests:?}");
    browser.value("{ const script = document.createElement('script'); script.textContent = 'window.ran = 1'; document.body.append(script); }");
    assert_eq!(browser.value("window.ran ?? 0"), 0);
    assert_eq!(
        browser.value("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')"),
        "refused"
    );
    let refused = browser.of("Log.entryAdded");
    let by_policy = |entry: &&Value| {
        let text = entry["params"]["entry"]["text"].as_str().unwrap();
        text.contains("Content Security Policy")
    };
    assert!(
        !refused.is_empty() && refused.iter().all(by_policy),
        "{refused:?}"
    );
}

#[test]
fn the_page_fits_narrow_and_wide_windows_paper_and_the_dark() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let bench = Bench::new();
    fill(&bench);
    let (run, file) = report(&bench, &[]);
    run.code(0);
    browser.open(&file, 1400);
    let light = browser.value("getComputedStyle(document.body).backgroundColor");
    // The longest value of a figure, in each of them: no text may lie on another one.
    browser.value(
        "document.querySelectorAll('.figures dd').forEach((figure) => { figure.firstChild.textContent = '867 milliseconds'; })",
    );
    let overprinted = "{ const box = (node) => { const range = document.createRange(); range.selectNodeContents(node); \
                       return range.getBoundingClientRect(); }; \
                       const boxes = [...document.querySelectorAll('.figures dd, .figures dt, .chart span')].map(box); \
                       boxes.filter((one, at) => boxes.some((other, place) => place > at && one.left < other.right && \
                       other.left < one.right && one.top < other.bottom && other.top < one.bottom)).length }";
    // On a phone, a table without bars may be scrolled.
    let cut = "[...document.querySelectorAll('.scroll')].filter((part) => part.scrollWidth > part.clientWidth && \
               (innerWidth > 600 || part.querySelector('.strip'))).map((part) => part.textContent)";
    for width in [400, 700, 1000, 1100, 1400] {
        browser.resize(width);
        assert_eq!(browser.value(overprinted), 0, "{width}");
        assert_eq!(browser.value(cut), json!([]), "{width}");
        let overflow = browser.value("document.documentElement.scrollWidth - innerWidth");
        assert!(overflow.as_i64().unwrap() <= 0, "{width}: {overflow}");
        let picture = browser.picture();
        assert!(
            picture.starts_with(b"\x89PNG") && picture.len() > 10_000,
            "{width}: {}",
            picture.len()
        );
    }
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.call("Emulation.setEmulatedMedia", &dark);
    assert_ne!(
        browser.value("getComputedStyle(document.body).backgroundColor"),
        light
    );
    let paper = json!({"media": "print", "features": dark["features"]});
    browser.call("Emulation.setEmulatedMedia", &paper);
    // The width of a page of A4 between its margins.
    browser.resize(688);
    assert_eq!(browser.value(overprinted), 0);
    let overflow = browser.value("document.documentElement.scrollWidth - innerWidth");
    assert!(overflow.as_i64().unwrap() <= 0, "{overflow}");
    assert_eq!(
        browser.value("getComputedStyle(document.getElementById('controls')).display"),
        "none"
    );
    assert_eq!(
        browser.value("getComputedStyle(document.body).color"),
        "rgb(32, 36, 42)"
    );
}
