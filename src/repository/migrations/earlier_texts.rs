//! The earlier texts of migrations that are accepted, by their checksums.

/// Migrations whose comments were rewritten before the first release, and the SHA-384 of each earlier
/// text. Databases that have the earlier text are accepted, because its statements are the
/// same.
const EARLIER_CHECKSUMS: [(i64, &str); 10] = [
    (
        1,
        "30f9586524a5c154869240ecc62c6fbb21ff3e4dae342a245af350e58ad32cb7\
         0a9112d1e4700c15b529b985736381f4",
    ),
    (
        1,
        "63c5845a2ae3bf9b58311d409628115c63bb8e4f8e5f7468ef2228c72b655b76\
         2b6ba5e18ab68bee35c9fcda59463f7c",
    ),
    (
        2,
        "4dd5e6c714e8b3570a8d19ea93d23c93068114c1bb0f969a1aae0e108635ec1a\
         674bad5f3fee863020482603d3e9ed3d",
    ),
    (
        3,
        "a8edd8918f7ec9b20ea1e02fe2cb94c79501f5514dec6d7762b56f2628b4b173\
         9d4cb315526ad27fd61a8ce91e4a1e84",
    ),
    (
        4,
        "71a954c641e9685ea0ca1d7cb4bdc372dd1e33e7f3deb924a123b31f397cf97d\
         257c93388f4179789a7fe9853ddac622",
    ),
    (
        5,
        "0f8bfa1a01f64c76d75f5c62ad586a38ac33954ca81e3ef2972f6a1a03c0f800\
         d5c8820f0b86a2622418e2c94d5c17bb",
    ),
    (
        6,
        "740d84a6c87c0775843529b5d296ec6230b4b2b6c28e26559c5154e10e62b5e5\
         d6d695f84e860212e0d2f5b9047fb32d",
    ),
    (
        7,
        "170938744ea10deb42ff049d9dac145a09d5054767d65ec083ae38ea26978432\
         b46b331ed71bc843fab09066050da9d3",
    ),
    (
        8,
        "02b2d94b7b0609b2b0d04f57002c307333a97b5f7afef9c1318513ce38df09a2\
         e701dabc3e8f9c20461fa02774ec5197",
    ),
    (
        10,
        "b76638880956143d9e2fea9bff913aef6e2d2d71f74b43b3ca4a5626a9458fe5\
         063ebc9612cc0424cd3f32ff2e64b6a4",
    ),
];

/// Whether `checksum` belongs to an earlier text of the migration `version`.
pub(super) fn has_earlier_text(version: i64, checksum: &[u8]) -> bool {
    let hex: String = checksum.iter().map(|byte| format!("{byte:02x}")).collect();
    EARLIER_CHECKSUMS.contains(&(version, &hex))
}

#[cfg(test)]
mod tests {
    use super::super::known::MigrationList;
    use super::*;

    #[test]
    fn earlier_texts_belong_to_migrations_and_differ_from_the_present_ones() {
        let own = MigrationList::own();
        for (version, hex) in EARLIER_CHECKSUMS {
            let migration = &own.find(version).unwrap().file;
            assert_eq!(hex.len(), 2 * migration.checksum.len(), "{version}");
            assert!(!has_earlier_text(version, &migration.checksum), "{version}");
        }
    }
}
