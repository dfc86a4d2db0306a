//! The rules of definitions, which stand in the domain.

use plimsoll_domain::{DefinitionField, PoolDefinition, Timestamp, Units};

/// Every rule that a definition breaks. The domain names the first field that breaks one: it is mended, and the rest judged again.
pub(crate) fn broken_rules(definition: &PoolDefinition) -> Vec<(DefinitionField, &'static str)> {
    let mut definition = definition.clone();
    let mut broken = Vec::new();
    while let Err(error) = definition.check() {
        match error.field {
            DefinitionField::Name => definition.name = "mended".into(),
            DefinitionField::Zone => definition.zone = "mended".into(),
            DefinitionField::Kind => definition.kind = "mended".into(),
            DefinitionField::StartsAt => definition.starts_at = Timestamp(0),
            DefinitionField::EndsAt => definition.ends_at = Timestamp(plimsoll_domain::limits::TIME_MAX),
            DefinitionField::OpensAt => definition.opens_at = Timestamp(0),
            DefinitionField::ClosesAt => definition.closes_at = Timestamp::NEVER,
            DefinitionField::Coverage => definition.coverage.clear(),
            DefinitionField::Limits(dimension) => definition.limits.0[dimension] = 0,
            DefinitionField::Overbook(dimension) => definition.overbook.0[dimension] = 0,
        }
        broken.push((error.field, error.rule));
    }
    broken
}

/// What a field is called; those of a dimension are called as the group.
pub(crate) fn name_of(field: DefinitionField) -> &'static str {
    match field {
        DefinitionField::Name => "name",
        DefinitionField::Zone => "zone",
        DefinitionField::Kind => "kind",
        DefinitionField::StartsAt => "starts_at",
        DefinitionField::EndsAt => "ends_at",
        DefinitionField::OpensAt => "opens_at",
        DefinitionField::ClosesAt => "closes_at",
        DefinitionField::Coverage => "coverage",
        DefinitionField::Limits(_) => "limits",
        DefinitionField::Overbook(_) => "overbook",
    }
}

/// A rule that a definition breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenRule {
    /// The field of the definition.
    pub field: &'static str,
    /// In which dimension, of `limits` and `overbook`.
    pub dimension: Option<usize>,
    /// What must hold.
    pub rule: &'static str,
}

/// Every rule that a definition breaks, as an engine would judge it.
#[must_use]
pub fn broken_definition_rules(definition: &plimsoll_client::PoolDefinition) -> Vec<BrokenRule> {
    let texts = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
    let judged = PoolDefinition {
        name: definition.name.as_str().into(),
        zone: definition.zone.as_str().into(),
        kind: definition.kind.as_str().into(),
        starts_at: Timestamp(definition.starts_at),
        ends_at: Timestamp(definition.ends_at),
        opens_at: Timestamp(definition.opens_at),
        closes_at: Timestamp(definition.closes_at),
        coverage: texts(&definition.coverage),
        closed: definition.closed,
        shadow: definition.shadow,
        limits: Units::from_slice(&definition.limits),
        overbook: Units::from_slice(&definition.overbook),
    };
    let broken = broken_rules(&judged).into_iter();
    broken
        .map(|(field, rule)| BrokenRule {
            field: name_of(field),
            dimension: match field {
                DefinitionField::Limits(dimension) | DefinitionField::Overbook(dimension) => Some(dimension),
                _ => None,
            },
            rule,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broken_rule_is_named() {
        let sound = plimsoll_client::PoolDefinition {
            zone: "z".into(),
            kind: "k".into(),
            ends_at: 5,
            ..plimsoll_client::PoolDefinition::new("a", vec![1, 2])
        };
        assert_eq!(broken_definition_rules(&sound), []);
        let broken = plimsoll_client::PoolDefinition {
            name: "import".into(),
            kind: String::new(),
            starts_at: 9,
            limits: vec![1, u32::MAX],
            ..sound
        };
        let found = broken_definition_rules(&broken);
        let fields: Vec<_> = found.iter().map(|broken| (broken.field, broken.dimension)).collect();
        assert_eq!(
            fields,
            [("name", None), ("kind", None), ("ends_at", None), ("limits", Some(1))]
        );
    }
}
