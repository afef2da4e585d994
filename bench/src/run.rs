//! A run: finds what parts need, has each measure in namespaces of its own, and has the report written.

use std::{fs, path::Path};

use tokio::time::Instant;

use crate::{
    args::Selection,
    context::Context,
    environment::Environment,
    namespace,
    part::Part,
    parts,
    report::{Report, Section},
    row::Row,
};

/// Measures all that is selected and writes the report.
///
/// # Errors
///
/// When a part fails, after the others have been measured and reported.
pub async fn all(selection: &Selection) -> anyhow::Result<()> {
    let selected: Vec<&Part> = if selection.parts.is_empty() {
        parts::all().collect()
    } else {
        let named = selection.parts.iter().map(|name| parts::find(name));
        named.collect::<anyhow::Result<_>>()?
    };
    if selection.list {
        for part in selected {
            eprintln!("{:<20} {}", part.name, part.measures);
        }
        return Ok(());
    }
    if !namespace::is_available() {
        eprintln!("Not root: parts are measured in the machine's own network namespace.");
    }
    let mut context = Context::prepare(selection.quick).await?;
    context.memory_time = selection.memory_time;
    let mut environment = Environment::begin(&context).await?;
    let folder = tempfile::tempdir()?;
    let told = folder.path().join("context.json");
    fs::write(&told, serde_json::to_vec(&context)?)?;

    let mut sections = Vec::new();
    let mut failed = Vec::new();
    for (place, part) in selected.iter().enumerate() {
        eprintln!(
            "[{}/{}] {}: {}",
            place + 1,
            selected.len(),
            part.name,
            part.measures
        );
        let begun = Instant::now();
        let rows = folder.path().join(part.name);
        match measured(part, &told, &rows).await {
            Ok(rows) => sections.push(Section {
                part: part.name.to_owned(),
                measures: part.measures.to_owned(),
                took: begun.elapsed(),
                rows,
            }),
            Err(error) => {
                eprintln!("{}: {error:#}", part.name);
                failed.push(part.name);
            }
        }
        eprintln!("      took {:.0} s", begun.elapsed().as_secs_f64());
    }
    environment.end()?;
    let output = match &selection.output {
        Some(folder) => folder.clone(),
        None => context.target.join("benchmarks"),
    };
    let report = Report {
        quick: selection.quick,
        environment,
        sections,
    };
    report.write(&output)?;
    eprint!("{}", report.budgets());
    eprintln!("The report is {}", output.join("benchmarks.md").display());
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

async fn measured(part: &Part, context: &Path, rows: &Path) -> anyhow::Result<Vec<Row>> {
    namespace::run_part(part.name, context, rows).await?;
    Ok(serde_json::from_slice(&fs::read(rows)?)?)
}

/// Measures one part in the namespace this runs in, and writes its rows.
///
/// # Errors
///
/// When there is no such part, or it fails.
pub async fn one(name: &str, context: &Path, rows: &Path) -> anyhow::Result<()> {
    let part = parts::find(name)?;
    let context: Context = serde_json::from_slice(&fs::read(context)?)?;
    namespace::enter().await?;
    let measured = (part.run)(&context).await?;
    fs::write(rows, serde_json::to_vec(&measured)?)?;
    Ok(())
}
